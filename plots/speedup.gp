# speedup.gp - device time of HuggingFace eager over the best point's; style.gp says how to run it
script = "speedup"
folder = ARG0[1:strstrt(ARG0, "speedup.gp") - 1]
needs = "baseline baseline_us speedup fused_us"
load folder . "style.gp"

speedup(i) = number(i, "speedup") # none on the CPU device: ratios of emulation times say nothing
compared(i) = drawn(i) && cell(i, "baseline") eq "hf_eager" && is_number(speedup(i))
# rows='1' besides, for another than 4096 (or, where those are none, the most)
wanted = exists("rows") ? real(rows) : 4096
rows = 0
do for [i = 1:n] {
    if (compared(i) && rows != wanted) {
        rows = number(i, "rows") == wanted || number(i, "rows") > rows ? number(i, "rows") : rows
    }
}
if (rows == 0 && is_cpu) {
    eval refuse(3, csv . ": emulation times are not compared with HuggingFace eager")
}
if (rows == 0) {
    eval refuse(3, csv . ": nothing compared with HuggingFace eager; 'make torch' adds PyTorch")
}
shown(i, kernel) = drawn(i) && cell(i, "kernel") eq kernel && number(i, "rows") == rows
fused(i) = number(i, "baseline_us") / number(i, "fused_us")

highest = 1.
lowest = 1.
any_fused = 0
do for [i = 1:n] {
    if (compared(i) && number(i, "rows") == rows) {
        highest = speedup(i) > highest ? speedup(i) : highest
        lowest = speedup(i) < lowest ? speedup(i) : lowest
        if (is_number(fused(i))) {
            any_fused = 1
            highest = fused(i) > highest ? fused(i) : highest
            lowest = fused(i) < lowest ? fused(i) : lowest
        }
    }
}
# Lengths compare on a linear axis; where all would be slivers beside 1, ratios do on a log axis.
ratio = lowest < 0.1 || highest > 100
from = ratio ? 1. : 0.

# Downwards a bar a problem, a gap a kernel; $bars holds y and the end, $marks torch's fused op.
set print $bars
print "# y, speedup"
set print $marks
print "-9\t1" # out of sight, for where there is none
set print
set ytics () scale 0 noenhanced
y = 0
do for [kernel in kernels] {
    bars = 0
    do for [i = 1:n] {
        if (shown(i, kernel)) {
            set ytics add (shape(i) y)
            end = compared(i) ? speedup(i) : from
            words_of_bar = compared(i) ? rates(end) : "no baseline"
            set print $bars append
            print sprintf("%g\t%g", y, end)
            if (compared(i) && is_number(fused(i))) {
                set print $marks append
                print sprintf("%g\t%g", y, fused(i))
                if (fused(i) > end) { end = fused(i) }
            }
            set print
            if (end < 1 && ratio) {
                set label words_of_bar at end, y right offset -0.9, 0
            } else { # on the far side of the line at 1
                set label words_of_bar at end < 1 ? 1 : end, y left offset 0.9, 0
            }
            if (bars == 0) {
                set label kernel at screen 0.012, first y left noenhanced
                set label what(kernel) at screen 0.012, first y offset 1.6, -1.15 tc rgb ink
            }
            bars = bars + 1
            y = y + 1
        }
    }
    if (bars) { y = y + 0.7 }
}

height = y * 25 + 160 < 620 ? 620 : int(y * 25 + 160)
set yrange [y - 0.9:-0.7]
if (ratio) {
    set logscale x
    set xrange [lowest < 1 ? lowest / 2 * (lowest / highest) ** 0.2 : 0.7:highest * 3]
    set format x "%g"
} else {
    set xrange [0:highest * 1.1]
}
set border 1
set grid noytics
set lmargin 33
set rmargin 3
set tmargin 3.9
set bmargin foot
set xlabel "times as fast as HuggingFace eager (device time)" offset 0, 0.3
heading = sprintf("Speedup over HuggingFace eager: %d row%s, %s, %s", rows, \
                  rows == 1 ? "" : "s", dtype, policy_words)
set style fill solid 1 border rgb "#003F63"
set arrow from 1, graph 0 to 1, graph 1 nohead lw 2 lc rgb "#000000" dt (6, 4) front
set label "eager" at 1, graph 1 center offset 0, 0.6
set key at graph 1, graph 1 right bottom horizontal samplen 1 Left reverse

do for [form in forms] {
    eval draw(form, height)
    plot $bars using (from):1:(from):2:($1 - 0.4):($1 + 0.4) with boxxyerror lt 1 lw 1 notitle, \
         $marks using 2:1 with points pt 13 ps 2.2 lc rgb "#000000" notitle, \
         $marks using 2:1 with points pt 13 ps 1.5 lc rgb "#E69F00" \
             title (any_fused ? "torch's fused op" : "")
    unset output
}
