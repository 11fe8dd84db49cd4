# heatmap.gp - the best time with each pair of values of the two strongest tunables
#
#   gnuplot -e "csv='DIR/heatmap.csv'; out='DIR'" heatmap.gp
# The file is what `fastinfer explain --plot DIR` writes. Exit codes as in look.gp.
script = "heatmap"
folder = ARG0[1:strstrt(ARG0, "heatmap.gp") - 1]
needs = "kernel dtype problem residency launch device driver commit dirty date x_tunable y_tunable " \
        . "x y points failed percent_over_best"
load folder . "look.gp"

set datafile columnheaders
xs = ""
ys = ""
most = 0
names = "kernel dtype problem residency launch device driver commit dirty date x_tunable y_tunable"
array of[words(names)]
known(list, v) = strstrt(" " . list . " ", " " . v . " ")
percent_of(text) = text eq "" ? NaN : real(text)
stats table using ( \
    (sum [k = 1:words(names)] (of[k] = strcol(word(names, k)), 0)), \
    known(xs, strcol("x")) ? 0 : (xs = xs . " " . strcol("x"), 0), \
    known(ys, strcol("y")) ? 0 : (ys = ys . " " . strcol("y"), 0), \
    percent_of(strcol("percent_over_best")) > most ? (most = percent_of(strcol("percent_over_best"))) : 0, 0) \
    nooutput
about_of(name) = of[sum [k = 1:words(names)] (word(names, k) eq name ? k : 0)]
place(list, v) = sum [k = 1:words(list)] (word(list, k) eq v ? k : 0)
caption = about(about_of("device"), about_of("driver"), about_of("commit"), about_of("dirty"), 0, \
                about_of("date"))
caption_lines = lines_of(about_of("device"))
heading = sprintf("%s %s, %s,%s: best time with each pair of values, %% over the best\n%s", \
                  about_of("kernel"), about_of("dtype"), about_of("residency"), \
                  about_of("launch"), about_of("problem"))

# What is far from the best is as good as lost: its differences get no colours.
top = most < 5 ? 5 : most > 50 ? 50 : most
across = words(xs)
down = words(ys)
height = down * 62 + 250 < 420 ? 420 : down * 62 + 250

# cividis: dark is fast, and shades differ without colour too
set palette defined (0 "#00224E", 1 "#2A3F6D", 2 "#575D6D", 3 "#7D7C78", \
                     4 "#A59C74", 5 "#D2C060", 6 "#FEE838")
set cbrange [0:top]
set cbtics nomirror
set format cb "%g%%"
if (most > top) {
    set cbtics add (sprintf("> %g%%%%", top) top) # a label is a format too
}

# the margins, in pixels
foot = 76. + 22 * caption_lines
head = 84.
set lmargin at screen 0.13
set rmargin at screen 0.865
set bmargin at screen foot / height
set tmargin at screen 1 - head / height
set colorbox user origin screen 0.885, screen foot / height \
             size screen 0.022, screen (height - head - foot) / height
set xrange [0.5:across + 0.5]
set yrange [0.5:down + 0.5]
set border 0
unset grid
set tics scale 0
set xtics ()
set ytics ()
do for [k = 1:across] { set xtics add (word(xs, k) k) }
do for [k = 1:down] { set ytics add (word(ys, k) k) }
set xlabel about_of("x_tunable") noenhanced offset 0, 0.3
set ylabel about_of("y_tunable") noenhanced offset -0.5, 0
unset key

# Text on a cell: white where it is dark. A cell without a time is empty, or all failed.
percent(z) = percent_of(strcol("percent_over_best"))
failed(z) = int(strcol("failed"))
px(z) = place(xs, strcol("x"))
py(z) = place(ys, strcol("y"))
number_of(p) = p != p ? "" : sprintf(p < 9.95 ? "%.1f" : "%.0f", p)
words_of(p, f) = number_of(p) . (p == p && f ? "\n" : "") . (f ? sprintf("×%d", f) : "")
# a text of two lines hangs from its first
lift(p, f) = p == p && f ? 11. * down / (height - head - foot) : 0
white = 0xFFFFFF
black = 0x010101 # no shade of the page: cells keep their colours in the dark
marks = 0
stats table using (marks = marks + failed(0)) nooutput
if (marks) { heading = heading . "      ×n: n points failed" }
size = across > 12 ? 11 : across > 9 ? 13 : 15

do for [form in forms] {
    eval draw(form, height)
    plot table using (px(0)):(py(0)):(px(0) - 0.48):(px(0) + 0.48):(py(0) - 0.46):(py(0) + 0.46) \
             with boxxyerror lc rgb "#C8C8C8" lw 1 dt 1 fillstyle empty, \
         table using (px(0)):(py(0)):(px(0) - 0.48):(px(0) + 0.48):(py(0) - 0.46):(py(0) + 0.46):(percent(0)) \
             with boxxyerror fillstyle solid 1 noborder fillcolor palette, \
         table using (percent(0) == 0 ? px(0) : NaN):(py(0)):(px(0) - 0.48):(px(0) + 0.48):(py(0) - 0.46):(py(0) + 0.46) \
             with boxxyerror lc rgb "#D55E00" lw 5 dt 1 fillstyle empty, \
         table using (px(0)):(py(0) + lift(percent(0), failed(0))):(words_of(percent(0), failed(0))): \
             (percent(0) < 0.6 * top ? white : black) with labels noenhanced \
             font sprintf(",%d", size) textcolor rgb variable
    unset output
}
