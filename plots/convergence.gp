# convergence.gp - the mean best time over the best of a space, against evaluations; a panel a space
#
#   gnuplot -e "csv='DIR/convergence.csv'; out='DIR'" convergence.gp
# (caption='...' besides: where the spaces were measured, which the file does not say). The file is
# what `fastinfer replay --plot DIR` writes. Exit codes as in look.gp.
script = "convergence"
folder = ARG0[1:strstrt(ARG0, "convergence.gp") - 1]
needs = "space strategy evaluation mean_ms random_ms best_ms"
load folder . "look.gp"

set datafile columnheaders
spaces = ""
strategies = ""
known(list, v) = strstrt(" " . list . " ", " " . v . " ")
stats table using ( \
    known(spaces, strcol("space")) ? 0 : (spaces = spaces . " " . strcol("space"), 0), \
    known(strategies, strcol("strategy")) ? 0 \
        : (strategies = strategies . " " . strcol("strategy"), 0), 0) nooutput
of(name) = real(strcol(name))
mine(space, strategy) = strcol("space") eq space && strcol("strategy") eq strategy
over(name, space, strategy) = mine(space, strategy) ? 100 * (of(name) / of("best_ms") - 1) : NaN

if (!exists("caption")) { caption = "" }
caption_lines = 1
heading = "Searching a space: the mean best so far, over the best of all points"
panels = words(spaces)
across = panels > 4 ? 3 : panels > 1 ? 2 : 1
down = (panels + across - 1) / across
height = down < 2 ? 620 : 320 * down + 180
# margins in pixels, as fractions of the picture
left = 92.
gap_x = 40.
gap_y = 84.
top = 184.
bottom = 96.
panel_width = (1000 - left - 24 - gap_x * (across - 1)) / across
panel_height = (height - top - bottom - gap_y * (down - 1)) / down
set logscale x
set xrange [1:*] noextend
set format y "%g%%"

do for [form in forms] {
    eval draw(form, height)
    set label "evaluations" at screen 0.5, screen 52. / height center textcolor rgb ink
    set label "over best" at screen 0.012, screen 1 - (top - 34) / height left textcolor rgb ink
    set key at screen 0.98, screen 1 - 46. / height right top horizontal Left reverse samplen 2.4 \
            maxcols 4 maxrows 2 noenhanced
    set multiplot
    do for [p = 1:panels] {
        space = word(spaces, p)
        x0 = left + ((p - 1) % across) * (panel_width + gap_x)
        y0 = height - top - ((p - 1) / across) * (panel_height + gap_y)
        set lmargin at screen x0 / 1000
        set rmargin at screen (x0 + panel_width) / 1000
        set tmargin at screen y0 / height
        set bmargin at screen (y0 - panel_height) / height
        set title space noenhanced offset 0, -0.5
        # what random search has after a few evaluations is high enough to see the rest under it
        most = 0
        stats table using (strcol("space") eq space && of("evaluation") <= 5 \
            && (of("evaluation") == 5 || of("random_ms") / of("best_ms") - 1 < most || most == 0) \
            ? (most = of("random_ms") / of("best_ms") - 1) : 0, 0) nooutput
        set yrange [0:(most > 0 ? 100 * most : 1) * 1.05]
        plot table using "evaluation":(over("random_ms", space, word(strategies, 1))) with lines \
                 lw 2.5 lc rgb "#000000" dt (2, 4) title "random, expected", \
             for [k = 1:words(strategies)] table using \
                 "evaluation":(over("mean_ms", space, word(strategies, k))) with lines lt k \
                 title word(strategies, k)
        unset key
        unset label
    }
    unset multiplot
    unset output
}
