# gate.gp - the gate's ratios over the commits it compared, a point a kernel, problem and policy
#
#   gnuplot -e "csv='DIR/gate.csv'; out='DIR'" gate.gp
# The file is what `fastinfer gate --history FILE` appends to. Exit codes as in look.gp.
script = "gate"
folder = ARG0[1:strstrt(ARG0, "gate.gp") - 1]
needs = "kernel verdict ratio low high device driver commit dirty date"
load folder . "look.gp"

set datafile columnheaders
total = 0
most = 1.02
least = 0.98
runs = 0
last = ""
stats table using (total = total + 1, 0) nooutput
array commit_of[total]
names = "device driver commit dirty date"
array of[words(names)]
num(name) = strcol(name) eq "" ? NaN : real(strcol(name))
run_of(z) = strcol("commit") . " " . strcol("date")
timed = 0
stats table using ( \
    run_of(0) eq last ? 0 : (runs = runs + 1, last = run_of(0), commit_of[runs] = strcol("commit")), \
    num("ratio") > 0 ? (timed = timed + 1) : 0, \
    num("high") > most ? (most = num("high")) : 0, \
    num("low") > 0 && num("low") < least ? (least = num("low")) : 0, \
    (sum [k = 1:words(names)] (of[k] = strcol(word(names, k)), 0)), 0) nooutput
if (timed == 0) { eval refuse(3, csv . ": no comparison was timed; without a GPU the gate has exact facts alone") }
caption = about(of[1], of[2], of[3], of[4], runs > 1, of[5])
caption_lines = lines_of(of[1])
heading = "The gate: time over the base's, a point a problem; over 1 is slower"
set xtics () rotate by (runs > 8 ? -40 : 0) noenhanced
every = runs > 24 ? runs / 24 + 1 : 1
do for [k = 1:runs:every] { set xtics add (commit_of[k][1:7] k) }
# points of a run side by side, in the order of the file
run = 0
place = 0
last = ""
next(z) = (run_of(0) eq last ? 0 : (run = run + 1, last = run_of(0), place = 0), place = place + 1, \
           run - 0.35 + 0.7 * (place % 40) / 40.)
height = 560
set lmargin 9
set rmargin 3
set tmargin 3
set bmargin (runs > 8 ? 5.4 : 3.4) + 1.2 * caption_lines
set xrange [0.4:runs + 0.6]
set yrange [least - 0.02:most * 1.03 + 0.02]
set pointintervalbox 0 # nothing is rubbed out behind a point
set key top right horizontal
of_kind(verdict) = strcol("verdict") eq verdict ? num("ratio") : NaN
do for [form in forms] {
    eval draw(form, height)
    run = 0
    last = ""
    plot table using (next(0)):(of_kind("same")):(num("low")):(num("high")) with yerrorbars \
             lc rgb "#808080" pt 7 ps 0.7 lw 1 title "same", \
         (run = 0, last = "", 1) with lines lc rgb "#000000" lw 1 dt 1 notitle, \
         table using (next(0)):(of_kind("faster")):(num("low")):(num("high")) with yerrorbars \
             lt 1 ps 1 lw 1.5 dt 1 title "faster", \
         (run = 0, last = "", 1) with lines lc rgb "#000000" lw 1 dt 1 notitle, \
         table using (next(0)):(of_kind("slower")):(num("low")):(num("high")) with yerrorbars \
             lt 2 ps 1.2 lw 1.5 dt 1 title "slower", \
         (run = 0, last = "", 1) with lines lc rgb "#000000" lw 1 dt 1 notitle, \
         table using (next(0)):(of_kind("unsure")):(num("low")):(num("high")) with yerrorbars \
             lt 5 ps 1.2 lw 1.5 dt 1 title "unsure"
    unset output
}
