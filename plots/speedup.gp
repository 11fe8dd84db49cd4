# speedup.gp - device time of HuggingFace eager over that of the best point; style.gp says how to run
script = "speedup"
folder = ARG0[1:strstrt(ARG0, "speedup.gp") - 1]
needs = "baseline baseline_us speedup fused_us"
load folder . "style.gp"

compared(i) = drawn(i) && cell(i, "baseline") eq "hf_eager" && is_number(number(i, "speedup"))
rows = 0
do for [i = 1:n] {
    if (compared(i) && rows != 4096) {
        rows = number(i, "rows") == 4096 ? 4096 : number(i, "rows") > rows ? number(i, "rows") : rows
    }
}
if (rows == 0) { eval refuse(3, csv . ": nothing was compared with HuggingFace eager; make torch adds it") }

# a bar a problem, a gap a kernel, downwards
y = 0
highest = 1
lowest = 1
fused = 0
unset key
set ytics () scale 0 noenhanced
do for [kernel in kernels] {
    set label kernel at screen 0.012, first y left noenhanced font ",15"
    set label what(kernel) at screen 0.03, first y + 1 left textcolor rgb ink
    set print $bars append
    do for [i = 1:n] {
        if (drawn(i) && cell(i, "kernel") eq kernel && number(i, "rows") == rows) {
            bar = compared(i) ? number(i, "speedup") : NaN
            mark = compared(i) ? number(i, "baseline_us") / number(i, "fused_us") : NaN
            set ytics add (shape(i) y)
            # the label stands behind what reaches furthest: column 5
            reach = is_number(mark) && is_number(bar) && mark > bar ? mark : bar
            print sprintf("%g\t%g\t%g\t%s\t%g", y, bar, mark, is_number(bar) ? rates(bar) : "no baseline", \
                          is_number(reach) ? reach : 0)
            if (is_number(bar) && bar > highest) { highest = bar }
            if (is_number(bar) && bar < lowest) { lowest = bar }
            if (is_number(mark)) { fused = 1; if (mark > highest) { highest = mark } }
            y = y + 1
        }
    }
    set print
    y = y + 0.7
}

# Lengths compare on a linear axis; where all would be slivers beside 1, ratios do on a log axis.
ratio = lowest < 0.1 || highest > 100
from = ratio ? 1 : 0
end_of(reach) = reach > 0 ? reach : from
is_left(bar) = ratio && bar < 1
height = y * 25 + 150 < 620 ? 620 : int(y * 25 + 150)
set yrange [y - 0.9:-0.7]
if (ratio) {
    set logscale x
    set xrange [lowest / 6.:highest * 6]
    set format x "%g"
} else {
    set xrange [0:highest * 1.12]
}
set border 1
set grid noytics
set lmargin 33
set rmargin 3
set tmargin 3.4
set bmargin foot
set xlabel "times as fast as HuggingFace eager (device time)" offset 0, 0.3
set title sprintf("Speedup over HuggingFace eager: %d rows, %s, caches cold", rows, dtype) \
    offset 0, 0.9
set style fill solid 1 border rgb "#003F63"
set arrow 1 from 1, graph 0 to 1, graph 1 nohead lw 2 lc rgb "#000000" dt (6, 4) front
set label 99 "eager" at 1, graph 1 center offset 0, 0.5
if (fused) {
    set key at graph 1, graph 1.01 right bottom horizontal samplen 1
}

do for [form in "svg png"] {
    eval draw(form, height)
    plot $bars using (from):1:(from):2:($1 - 0.4):($1 + 0.4) with boxxyerror lt 1 lw 1 notitle, \
         $bars using 3:1 with points pt 13 ps 2.1 lc rgb "#000000" notitle, \
         $bars using 3:1 with points pt 13 ps 1.5 lc rgb "#E69F00" title (fused ? "torch's fused op" : ""), \
         $bars using (is_left($2) ? NaN : end_of($5)):1:4 with labels left offset 0.9, 0 notitle, \
         $bars using (is_left($2) ? $2 : NaN):1:4 with labels right offset -0.9, 0 notitle
    unset output
}
