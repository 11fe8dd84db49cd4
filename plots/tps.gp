# tps.gp - tokens a second, a bar an engine and configuration, with what reading allows as a line
#
#   gnuplot -e "csv='results/nvidia-h200/tps.csv'; out='DIR'" tps.gp
# The file is what `fastinfer export` writes. A group is a model with its batch, prompt and count of
# new tokens; where a setting was timed more than once the last row counts. Exit codes as in look.gp.
script = "tps"
folder = ARG0[1:strstrt(ARG0, "tps.gp") - 1]
needs = "model batch prompt"
load folder . "look.gp"

has(name) = strstrt("," . header . ",", "," . name . ",") > 0
rate = has("tokens_per_s") ? "tokens_per_s" : "tokens_s"
low = has("low") ? "low" : "tokens_low"
high = has("high") ? "high" : "tokens_high"
new = has("generate") ? "generate" : "generated"
if (!has(rate)) { eval refuse(2, csv . ": has no column tokens_per_s") }
text(name) = has(name) ? strcol(name) : ""
num(name) = text(name) eq "" ? NaN : real(text(name))
is_number(x) = x == x

# --- the rows: the last of each setting -------------------------------------------------------------
set datafile columnheaders
group_of(z) = sprintf("%s, %s tokens after %s%s", text("model"), text(new), text("prompt"), \
                      text("batch") eq "1" || text("batch") eq "" ? "" : ", batch " . text("batch"))
# HuggingFace's versions are long, and a configuration that all of ours share tells nothing
foreign(z) = strstrt(text("engine"), "transformers") == 1
several = 0
shared = ""
stats table using (foreign(0) ? 0 : shared eq "" ? (shared = text("configs")) \
    : text("configs") eq shared ? 0 : (several = 1), 0) nooutput
setting_of(z) = text("configs") eq "-" || (text("form") ne "" && (foreign(0) || !several)) \
    ? "" : text("configs")
engine_of(z) = text("engine") . (text("form") eq "" ? "" : " " . text("form")) \
    . (setting_of(0) eq "" ? "" : (text("engine") eq "" ? "" : ", ") . setting_of(0))
# a sequence's share, or many sequences together would leave no room to see the others
side_by_side(z) = num("batch") > 1 ? num("batch") : 1
limit_of(z) = num("read_gbps") > 0 && num("step_bytes") > 0 \
    ? num("read_gbps") * 1e9 / num("step_bytes") : NaN
total = 0
stats table using (total = total + 1, 0) nooutput
array group[total]
array engine[total]
array of_batch[total]
array tokens[total]
array from[total]
array to[total]
array limit[total]
count = 0
newest = 0
at = 0
commits = 0
names = "device driver commit dirty date"
array of[words(names)]
do for [k = 1:words(names)] { of[k] = "" }
same(k, z) = group[k] eq group_of(0) && engine[k] eq engine_of(0)
find(z) = (sum [k = 1:count] (same(k, 0) ? k : 0))
seconds(date) = date eq "" ? 0 : strptime("%Y-%m-%dT%H:%M:%SZ", date)
stats table using ( \
    at = find(0), at == 0 ? (count = count + 1, at = count) : 0, \
    group[at] = group_of(0), engine[at] = engine_of(0), of_batch[at] = side_by_side(0), \
    tokens[at] = num(rate) / side_by_side(0), from[at] = num(low) / side_by_side(0), \
    to[at] = num(high) / side_by_side(0), limit[at] = limit_of(0), \
    of[3] eq "" || of[3] eq text("commit") ? 0 : (commits = 1), \
    seconds(text("date")) < newest ? 0 : (newest = seconds(text("date")), \
        (sum [k = 1:words(names)] (of[k] = text(word(names, k)), 0))), 0) nooutput
caption = about(of[1], of[2], of[3], of[4], commits, of[5])
caption_lines = lines_of(of[1])

# --- bars downwards, a heading a group --------------------------------------------------------------
highest = 0
do for [k = 1:count] {
    if (is_number(tokens[k]) && tokens[k] > highest) { highest = tokens[k] }
    if (is_number(to[k]) && to[k] > highest) { highest = to[k] }
    if (is_number(limit[k]) && limit[k] > highest) { highest = limit[k] }
}
if (highest == 0) { eval refuse(3, csv . ": no model was timed") }
# ours stand out; the others are grey
ours(k) = strstrt(engine[k], "transformers") == 0 && strstrt(engine[k], "HF") == 0
set print $bars
set print $limits
print "-9\t-9\t-9"
set print
set ytics () scale 0 noenhanced
y = 0
limits = 0
do for [g = 1:count] {
    first_of = 1
    do for [k = 1:g - 1] { if (group[k] eq group[g]) { first_of = 0 } }
    if (first_of) {
        set label group[g] at screen 0.012, first y left noenhanced
        y = y + 1
        begun = y
        bound = NaN
        do for [k = 1:count] {
            if (group[k] eq group[g] && is_number(tokens[k])) {
                set ytics add (engine[k] y)
                set print $bars append
                print sprintf("%g\t%g\t%g\t%g\t%d", y, tokens[k], is_number(from[k]) ? from[k] : tokens[k], \
                              is_number(to[k]) ? to[k] : tokens[k], ours(k) ? 0x0072B2 : 0x808080)
                set print
                set label (of_batch[k] > 1 ? sprintf("%d x ", of_batch[k]) : "") . rates(tokens[k]) at graph 1, first y right
                if (is_number(limit[k])) { bound = limit[k] }
                y = y + 1
            }
        }
        if (is_number(bound)) {
            limits = limits + 1
            set print $limits append
            print sprintf("%g\t%g\t%g", bound, begun - 0.5, y - 0.5)
            set print
        }
        y = y + 0.6
    }
}
height = y * 27 + 190 < 360 ? 360 : int(y * 27 + 190)
set yrange [y - 0.7:-0.7]
set xrange [0:highest * 1.17]
set border 1
set grid noytics
set lmargin 30
set rmargin 3
set tmargin 3.9
set bmargin 3.2 + 1.2 * caption_lines
set xlabel "tokens a second of each sequence, decode alone" offset 0, 0.3
heading = "Tokens a second"
set key at graph 1, graph 1 right bottom horizontal samplen 2 Left reverse

set datafile nocolumnheaders
do for [form in forms] {
    eval draw(form, height)
    plot $bars using (0):1:(0):2:($1 - 0.38):($1 + 0.38):5 with boxxyerror lw 1 \
             fillcolor rgb variable fillstyle solid 1 noborder notitle, \
         $bars using 2:1:3:4 with xerrorbars pt 0 lw 2 lc rgb "#000000" notitle, \
         $limits using 1:2:(0):($3 - $2) with vectors nohead lw 3 lc rgb "#D55E00" dt (6, 3) \
             title (limits ? "the read limit" : "")
    unset output
}
