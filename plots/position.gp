# position.gp - the time of a decode step against its position, a line an engine and model
#
#   gnuplot -e "csv='DIR/position.csv'; out='DIR'" position.gp
# Columns: model, engine, position, us, low_us, high_us and who, when; limit_us, where it is there, is
# what reading the weights and the cache takes. Exit codes as in look.gp.
script = "position"
folder = ARG0[1:strstrt(ARG0, "position.gp") - 1]
needs = "model engine position us low_us high_us device driver commit dirty date"
load folder . "look.gp"

set datafile columnheaders
lines = 0
total = 0
highest = 0
furthest = 1
stats table using (total = total + 1, 0) nooutput
array titles[total]
names = "device driver commit dirty date"
array of[words(names)]
name_of(z) = strcol("model") . (strcol("engine") eq "" ? "" : ", " . strcol("engine"))
num(name) = strcol(name) eq "" ? NaN : real(strcol(name))
stats table using ( \
    (sum [k = 1:lines] (titles[k] eq name_of(0))) ? 0 : (lines = lines + 1, titles[lines] = name_of(0)), \
    num("us") > highest ? (highest = num("us")) : 0, \
    num("position") > furthest ? (furthest = num("position")) : 0, \
    (sum [k = 1:words(names)] (of[k] = strcol(word(names, k)), 0)), 0) nooutput
if (highest == 0) { eval refuse(3, csv . ": no step was timed") }
caption = about(of[1], of[2], of[3], of[4], 0, of[5])
caption_lines = lines_of(of[1])
heading = "One decode step against its position"
has_limit = strstrt("," . header . ",", ",limit_us,") > 0
limit(k) = has_limit ? mine(k, "limit_us") : NaN
mine(k, name) = name_of(0) eq titles[k] ? num(name) : NaN
set datafile missing NaN
height = 560
set lmargin 11
set rmargin 3
set tmargin 3
set bmargin 3.4 + 1.2 * caption_lines
set xrange [0:furthest * 1.03]
set yrange [0:highest * (1.15 + 0.09 * (lines + has_limit))]
set xlabel "position" offset 0, 0.3
set ylabel "us a step"
set key top right Right samplen 2.4
do for [form in forms] {
    eval draw(form, height)
    plot for [k = 1:lines] table using (num("position")):(mine(k, "us")):(mine(k, "low_us")):(mine(k, "high_us")) \
             with yerrorbars lt k lw 1.5 pt 0 notitle, \
         for [k = 1:lines] table using (num("position")):(mine(k, "us")) with linespoints lt k title titles[k], \
         for [k = 1:lines] table using (num("position")):(limit(k)) with lines lw 2 lc rgb "#808080" \
             dt (6, 3) title (has_limit && k == 1 ? "the read limit" : "")
    unset output
}
