# step.gp - where a decode step's time goes, a bar a kernel
#
#   gnuplot -e "csv='DIR/steps.csv'; out='DIR'" step.gp
# (model='...' besides, for another than the first). The file has a row a part: kernel, problem, calls and us, the time of one. Exit codes as in look.gp.
script = "step"
folder = ARG0[1:strstrt(ARG0, "step.gp") - 1]
needs = "model kernel calls us device driver commit dirty date"
load folder . "look.gp"

set datafile columnheaders
if (!exists("model")) { model = "" }
kernels = ""
total = 0.
names = "model device driver commit dirty date"
array of[words(names)]
known(list, v) = strstrt(" " . list . " ", " " . v . " ")
mine(z) = (model eq "" ? (model = strcol("model")) : 0, strcol("model") eq model)
time_of(z) = strcol("calls") eq "" || strcol("us") eq "" ? 0. : real(strcol("calls")) * real(strcol("us"))
stats table using ( \
    !mine(0) ? 0 : known(kernels, strcol("kernel")) ? 0 : (kernels = kernels . " " . strcol("kernel"), 0), \
    mine(0) ? (total = total + time_of(0)) : 0, \
    !mine(0) ? 0 : (sum [k = 1:words(names)] (of[k] = strcol(word(names, k)), 0)), 0) nooutput
if (total <= 0) { eval refuse(3, csv . ": no part of a step was timed") }
n = words(kernels)
array spent[n]
do for [k = 1:n] {
    spent[k] = 0.
    stats table using (mine(0) && strcol("kernel") eq word(kernels, k) ? (spent[k] = spent[k] + time_of(0)) : 0, 0) \
        nooutput
}
caption = about(of[2], of[3], of[4], of[5], 0, of[6])
caption_lines = lines_of(of[2])
heading = sprintf("A decode step of %s: %s us in its kernels", of[1], rates(total))

# the longest first
set ytics () scale 0 noenhanced
set print $bars
set print
array left_over[n]
do for [k = 1:n] { left_over[k] = 1 }
most = 0.
do for [place = 1:n] {
    best = 0
    do for [k = 1:n] {
        if (left_over[k] && (best == 0 || spent[k] > spent[best])) { best = k }
    }
    left_over[best] = 0
    if (spent[best] > most) { most = spent[best] }
    set ytics add (word(kernels, best) place)
    set label sprintf("%s us, %.1f%%", rates(spent[best]), 100 * spent[best] / total) \
        at spent[best], place left offset 0.9, 0
    set print $bars append
    print sprintf("%d\t%g", place, spent[best])
    set print
}
height = n * 30 + 170 < 320 ? 320 : n * 30 + 170
set yrange [n + 0.7:0.3]
set xrange [0:most * 1.28]
set border 1
set grid noytics
set lmargin 20
set rmargin 3
set tmargin 3
set bmargin 3.2 + 1.2 * caption_lines
set xlabel "us of a step" offset 0, 0.3
set datafile nocolumnheaders
do for [form in forms] {
    eval draw(form, height)
    plot $bars using (0):1:(0):2:($1 - 0.38):($1 + 0.38) with boxxyerror lt 1 lw 1 \
             fillstyle solid 1 border notitle
    unset output
}
