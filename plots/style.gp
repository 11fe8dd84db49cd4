# style.gp - what the pictures share: reading a bench.csv, the look, the caption.
#
# A picture is made by hand with
#   gnuplot -e "csv='results/nvidia-h200/bench.csv'; out='results/nvidia-h200/plots'" speedup.gp
# (dtype='bf16' besides, for another than fp16). Its script sets `script`, its name, and `needs`, the
# columns it reads, and loads this file, which leaves
#   n, cell(i, name), number(i, name)  the rows of that dtype timed cold, launch by launch; number()
#                                      is NaN where the field is empty
#   shape(i), kernels                  "3072", "24/8"; the kernels in their order
#   draw(form, height), heading, ...   the look
# Exit codes: 2 the file is not what was expected, 3 it is, but holds nothing for this picture.
set encoding utf8
# print "..." inside eval: no double quotes in the sentence
refuse(code, sentence) = sprintf("set print '-'; set print; print \"%s: %s\"; exit status %d", \
                                 script . ".gp", sentence, code)
if (!exists("csv")) { eval refuse(2, "csv='results/DEVICE/bench.csv' was expected, by gnuplot -e") }
if (!exists("out")) { out = "." }
if (!exists("dtype")) { dtype = "" }
shell_word(s) = "'" . s . "'"
if (strstrt(csv . out, "'")) { eval refuse(2, "a path without quotes was expected") }
if (system("test -r " . shell_word(csv) . " && echo yes") ne "yes") {
    eval refuse(2, csv . ": cannot be read")
}

# --- reading -------------------------------------------------------------------------------------
# gnuplot cuts a quoted field at its first comma; so: tabs for the commas outside quotes.
table = "< awk -F'\"' -v OFS= '{ for (i = 1; i <= NF; i += 2) gsub(/,/, \"\\t\", $i); print }' " \
        . shell_word(csv)
set datafile separator "\t"
needs = "kernel dtype problem rows residency launch median_us read_bytes write_bytes device driver " \
        . "commit dirty date " . needs
fields = words(needs)

header = system("head -n 1 " . shell_word(csv))
if (header eq "") { eval refuse(2, csv . ": holds no measurement") }
absent = ""
do for [name in needs] {
    if (!strstrt("," . header . ",", "," . name . ",")) { absent = absent . " " . name }
}
if (absent ne "") { eval refuse(2, csv . ": has no column" . absent) }
if (int(system("grep -c . " . shell_word(csv))) < 2) {
    eval refuse(2, csv . ": holds no measurement")
}

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
    keep = strcol("residency") eq "cold" && strcol("launch") eq "stream" ? 1 : 0, \
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
drawn(i) = cell(i, "dtype") eq dtype
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
    eval refuse(3, csv . ": no " . dtype . " kernel was measured with the policy cold,stream")
}

# --- the caption ---------------------------------------------------------------------------------
when(i) = strptime("%Y-%m-%dT%H:%M:%SZ", cell(i, "date")) # strings have no order here
newest = 1
commits = 0
do for [i = 1:n] {
    if (when(i) > when(newest)) { newest = i }
    if (cell(i, "commit") ne cell(1, "commit")) { commits = 1 }
}
is_cpu = substr(cell(newest, "device"), 1, 3) eq "CPU"
caption = (is_cpu ? "CPU device: emulation times\n" : "") . cell(newest, "device") \
    . (cell(newest, "driver") eq "" ? "" : ", driver " . cell(newest, "driver")) \
    . ", commit " . substr(cell(newest, "commit"), 1, 10) . (cell(newest, "dirty") eq "1" ? " (modified)" : "") \
    . (commits ? " and others" : "") . ", " . substr(cell(newest, "date"), 1, 10)
caption_lines = is_cpu ? 2 : 1

# --- the look ------------------------------------------------------------------------------------
# Okabe and Ito's colours, dark enough on white; each with a point and a dash of its own.
set linetype 1 lc rgb "#0072B2" lw 2.5 pt 7  dt 1          # blue, disc
set linetype 2 lc rgb "#D55E00" lw 2.5 pt 5  dt (12, 4)    # vermilion, square
set linetype 3 lc rgb "#009E73" lw 2.5 pt 9  dt (4, 4)     # green, triangle
set linetype 4 lc rgb "#CC79A7" lw 2.5 pt 13 dt (14, 4, 3, 4) # purple, diamond
set linetype 5 lc rgb "#E69F00" lw 2.5 pt 11 dt (8, 3, 2, 3, 2, 3) # orange, triangle down
set linetype 6 lc rgb "#56B4E9" lw 2.5 pt 6  dt (2, 3)     # sky, ring
set linetype 7 lc rgb "#000000" lw 2.5 pt 4  dt (6, 6)     # black, open square
set linetype cycle 7
ink = "#404040"
set pointsize 1.3
set border 3 lc rgb ink lw 1.2
set tics nomirror textcolor rgb "#202020"
set grid xtics ytics lc rgb "#DDDDDD" lt 1 lw 1 dt 1
set key noenhanced
unset mxtics
unset mytics

# Commands for eval: opens OUT/<script>.<form>, 1000 wide, with `heading` above, the caption below.
heading = ""
terminal(form, height) = form eq "svg" \
    ? sprintf("set terminal svg size 1000,%d dynamic font 'sans-serif,18' background '#ffffff'", height) \
    : sprintf("set terminal pngcairo size 1000,%d font 'Sans,14' background '#ffffff'", height)
draw(form, height) = terminal(form, height) . sprintf("; system(\"mkdir -p '%s'\")", out) \
    . sprintf("; set output '%s/%s.%s'", out, script, form) \
    . sprintf("; set label 100 caption at screen 0.012, screen %f left noenhanced textcolor rgb ink", \
              (14. + 22 * (caption_lines - 1)) / height) \
    . sprintf("; set label 101 heading at screen 0.5, screen %f center noenhanced", \
              1 - 20. / height)
foot = 3.2 + 1.2 * caption_lines # the bottom margin, in lines, for tics, label and caption
rates(x) = sprintf(x >= 100 ? "%.0f" : x >= 10 ? "%.1f" : x >= 0.1 ? "%.2f" : "%.2g", x)
