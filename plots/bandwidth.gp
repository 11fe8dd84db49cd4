# bandwidth.gp - least bytes a second against rows, a panel a kernel; style.gp says how to run it
# (copy=4287 besides: the device-to-device copy in GB/s, a dotted line)
script = "bandwidth"
folder = ARG0[1:strstrt(ARG0, "bandwidth.gp") - 1]
needs = "ceiling_gbps"
load folder . "style.gp"

shows(i) = is_number(number(i, "rows"))
shown(i, kernel) = drawn(i) && cell(i, "kernel") eq kernel && shows(i)
points(s, kernel) = sum [k = 1:n] (shown(k, kernel) && shape(k) eq s)
array titles[n]
known(s) = sum [k = 1:lines] (titles[k] eq s)
highest = 0
most_rows = 1
do for [i = 1:n] {
    if (drawn(i) && shows(i)) {
        highest = gbps(i) > highest ? gbps(i) : highest
        if (ceiling(i) > highest) { highest = ceiling(i) }
        if (number(i, "rows") > most_rows) { most_rows = number(i, "rows") }
    }
}
if (!exists("copy")) { copy = 0 }
highest = copy > highest ? copy : highest

eval keep
panels = words(kernels)
if (panels == 0) { eval refuse(3, csv . ": no kernel with rows was measured") }
across = panels > 4 ? 3 : panels > 1 ? 2 : 1
down = (panels + across - 1) / across
height = panels == 1 ? 520 : down < 3 ? 620 : 250 * down + 120
# the picture's margins and a panel's own, in pixels
left = 92.
right = 24.
top = 92.
bottom = 66. + 23 * caption_lines
gap_x = 26.
gap_y = 72.
panel_width = (1000 - left - right - gap_x * (across - 1)) / across
panel_height = (height - top - bottom - gap_y * (down - 1)) / down

set logscale x 2
set xrange [0.7:most_rows * 1.6]
set xtics ("1" 1, "16" 16, "256" 256, "4k" 4096, "64k" 65536, "1M" 1048576)
if (most_rows <= 256) { set xtics ("1" 1, "4" 4, "16" 16, "64" 64, "256" 256) }
set yrange [0:highest * 1.08]
step = 10. ** floor(log10(highest))
set ytics highest / step < 2.5 ? step / 2 : step
# few rows leave the top left free on a GPU, the bottom where the rate hardly depends on them; beside
# the line of the copy there is room at the bottom right
early = sum [i = 1:n] (drawn(i) && number(i, "rows") <= sqrt(most_rows) && gbps(i) > 0.5 * highest)
set key left Left reverse samplen 2.2 spacing 0.95
if (early) { set key bottom } else { set key top }
late = sum [i = 1:n] (drawn(i) && number(i, "rows") > sqrt(most_rows) && gbps(i) > 0.3 * highest)
if (panels == 1 && late) { set key bottom right Right noreverse }
if (panels == 1 && !late) { set key at graph 0.03, graph 0.86 } # below the copy's line
heading = sprintf("Bandwidth over least bytes: %s, %s; ", dtype, policy_words) \
    . "grey dashes: the ceiling, a tuned stream" \
    . (copy > 0 ? "; dots: a copy" : "")

do for [form in forms] {
    eval draw(form, height)
    set label "GB/s" at screen 0.012, screen 1 - 58. / height left textcolor rgb ink
    set label "rows" at screen 0.5, screen (bottom - 46) / height center textcolor rgb ink
    set multiplot
    do for [p = 1:panels] {
        kernel = word(kernels, p)
        column_p = (p - 1) % across
        row_p = (p - 1) / across
        x0 = left + column_p * (panel_width + gap_x)
        y0 = height - top - row_p * (panel_height + gap_y)
        set lmargin at screen x0 / 1000
        set rmargin at screen (x0 + panel_width) / 1000
        set tmargin at screen y0 / height
        set bmargin at screen (y0 - panel_height) / height
        set format y (column_p ? "" : highest >= 10 ? "%.0f" : "%g")
        set title kernel . (what(kernel) eq "" ? "" : ", by " . what(kernel)) noenhanced \
            offset 0, -0.7

        # a block of $lines for each shape, named in titles; a lone point is no line, unless all are
        least = (sum [i = 1:n] (shown(i, kernel) && points(shape(i), kernel) > 1)) ? 2 : 1
        lines = 0
        do for [i = 1:n] {
            if (shown(i, kernel) && points(shape(i), kernel) >= least && !known(shape(i))) {
                lines = lines + 1
                titles[lines] = shape(i)
            }
        }
        set print $lines
        do for [k = 1:lines] {
            do for [i = 1:n] {
                if (shown(i, kernel) && shape(i) eq titles[k]) {
                    print sprintf("%g\t%g\t%g", number(i, "rows"), gbps(i), ceiling(i))
                }
            }
            print ""
            print ""
        }
        set print
        plot for [k = 1:lines] $lines index k - 1 using 1:3 smooth unique with linespoints \
                 pt (least == 1 ? 2 : 0) lc rgb "#808080" lw 1.5 dt (6, 4) notitle, \
             for [k = 1:copy > 0] copy with lines lc rgb "#000000" lw 2 dt (2, 4) notitle, \
             for [k = 1:lines] $lines index k - 1 using 1:2 smooth unique with linespoints \
                 lt k title titles[k]
        unset label
    }
    unset multiplot
    unset output
}
