# style.gp - what the pictures of a bench.csv share: reading it, the caption; look.gp has the look.
#
# A picture is made by hand with
#   gnuplot -e "csv='results/nvidia-h200/bench.csv'; out='results/nvidia-h200/plots'" speedup.gp
# (besides: dtype='bf16' for another than fp16, policy='hot,graph' for another than cold,stream,
# kernel='rope' for one alone). Its script sets `script`, its name, and `needs`, the
# columns it reads, and loads this file, which leaves
#   n, cell(i, name), number(i, name)  the rows of that dtype and policy; number()
#                                      is NaN where the field is empty
#   shape(i), kernels                  "3072", "24/8"; the kernels in their order
#   draw(form, height), heading, ...   the look
# Exit codes: 2 the file is not what was expected, 3 it is, but holds nothing for this picture.
if (!exists("dtype")) { dtype = "" }
if (!exists("policy")) { policy = "cold,stream" }
if (!exists("kernel")) { kernel = "" }
only = kernel

# --- reading -------------------------------------------------------------------------------------
needs = "kernel dtype problem rows residency launch median_us read_bytes write_bytes device driver " \
        . "commit dirty date " . needs
load folder . "look.gp"
fields = words(needs)

set datafile columnheaders
total = 0
stats table using (total = total + 1, 0) nooutput
array field[total * fields]
total = 0
dtypes = ""
devices = 0
last_device = ""
see(d, name) = (strstrt(" " . dtypes . " ", " " . d . " ") ? 0 : (dtypes = dtypes . " " . d), \
                name eq last_device ? 0 : (devices = devices + 1), last_device = name, 0)
stats table using (see(strcol("dtype"), strcol("device")), \
    keep = strcol("residency") . "," . strcol("launch") eq policy ? 1 : 0, \
    total = total + keep, \
    keep ? (sum [k = 1:fields] (field[(total - 1) * fields + k] = strcol(word(needs, k)), 0)) : 0) \
    nooutput
set datafile nocolumnheaders
if (devices > 1) { eval refuse(2, csv . ": holds several devices; one was expected") }
if (dtype eq "") { dtype = strstrt(" " . dtypes . " ", " fp16 ") ? "fp16" : word(dtypes, 1) }
n = total
column_of(name) = sum [k = 1:fields] (word(needs, k) eq name ? k : 0)
cell(i, name) = field[(i - 1) * fields + column_of(name)]
number(i, name) = cell(i, name) eq "" ? NaN : real(cell(i, name))
drawn(i) = cell(i, "dtype") eq dtype && (only eq "" || cell(i, "kernel") eq only)
is_number(x) = x == x
# from bytes and time: the column has one decimal, too few for the CPU device
gbps(i) = (number(i, "read_bytes") + number(i, "write_bytes")) / number(i, "median_us") / 1e3
ceiling(i) = number(i, "ceiling_gbps") > 0 ? number(i, "ceiling_gbps") : NaN

# "24/8" of "rows=4096,q_heads=24,kv_heads=8,...": what tells problems of a kernel apart
after(p, name) = (at = strstrt("," . p, "," . name . "="), \
                  at ? substr("," . p, at + strlen(name) + 2, strlen(p) + 1) : "")
first(s) = (comma = strstrt(s, ","), comma ? s[1:comma - 1] : s)
size_in(p, name) = first(after(p, name))
extra(p) = (size_in(p, "head_dim") eq "" || size_in(p, "head_dim") eq "128" \
               ? "" : " x" . size_in(p, "head_dim")) \
    . (size_in(p, "adjacent") eq "1" ? " adj" : "") . (size_in(p, "packed") eq "1" ? " packed" : "")
size_of(p) = size_in(p, "q_heads") ne "" ? size_in(p, "q_heads") . "/" . size_in(p, "kv_heads") \
    : size_in(p, "kv_heads") ne "" ? size_in(p, "kv_heads") \
    : size_in(p, "hidden") ne "" ? size_in(p, "hidden") \
    : size_in(p, "width") ne "" ? size_in(p, "width") : first(p[strstrt(p, ",") + 1:*])
shape(i) = size_of(cell(i, "problem")) . extra(cell(i, "problem"))
what(kernel) = kernel eq "rope" ? "q/kv heads" : kernel eq "rope_kv_append" ? "kv heads" \
    : kernel eq "swiglu" ? "width" : kernel eq "rmsnorm" || kernel eq "add_rmsnorm" ? "hidden" : ""

kernels = ""
do for [i = 1:n] {
    name = cell(i, "kernel")
    if (drawn(i) && name ne "stream" && !strstrt(" " . kernels . " ", " " . name . " ")) {
        kernels = kernels . (kernels eq "" ? "" : " ") . name
    }
}
if (kernels eq "") {
    eval refuse(3, csv . ": no " . dtype . " kernel was measured with the policy " . policy)
}

# Of these, a script may keep those with a row that it can show: it defines shows(i), then
# "eval keep"; none may be left.
keep = 'kept = ""; do for [p = 1:words(kernels)] {' \
    . ' if (sum [i = 1:n] (drawn(i) && cell(i, "kernel") eq word(kernels, p) && shows(i)))' \
    . ' { kept = kept . " " . word(kernels, p) } }; kernels = kept'

policy_words = policy eq "cold,stream" ? "caches cold" : policy eq "hot,graph" \
    ? "caches hot, in a graph" : policy eq "weights_cold,graph" ? "weights cold, in a graph" : policy

# --- the caption ---------------------------------------------------------------------------------
when(i) = strptime("%Y-%m-%dT%H:%M:%SZ", cell(i, "date")) # strings have no order here
newest = 1
commits = 0
do for [i = 1:n] {
    if (when(i) > when(newest)) { newest = i }
    if (cell(i, "commit") ne cell(1, "commit")) { commits = 1 }
}
is_cpu = is_cpu_device(cell(newest, "device"))
caption = about(cell(newest, "device"), cell(newest, "driver"), cell(newest, "commit"), \
                cell(newest, "dirty"), commits, cell(newest, "date"))
caption_lines = lines_of(cell(newest, "device"))
foot = 3.2 + 1.2 * caption_lines # the bottom margin, in lines, for tics, label and caption
