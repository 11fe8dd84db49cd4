# search.gp - the best time so far against evaluations, a line a problem
#
#   gnuplot -e "csv='DIR/search.csv'; out='DIR'" search.gp
# The file is what `fastinfer explain --plot DIR` writes: the problems in the order in which they
# matter, the points of each in the order in which they were measured. Exit codes as in look.gp.
script = "search"
folder = ARG0[1:strstrt(ARG0, "search.gp") - 1]
needs = "kernel dtype problem residency launch device driver commit dirty date evaluation us best_us"
load folder . "look.gp"

# A problem: its name, its best in the end, how many were evaluated.
set datafile columnheaders
total = 0
stats table using (total = total + 1, 0) nooutput
array name[total]
array final[total]
problems = 0
last = ""
longest = 1
newest = 0
commits = 0
names = "kernel dtype residency launch device driver commit dirty date"
array of[words(names)]
seconds(date) = strptime("%Y-%m-%dT%H:%M:%SZ", date)
commit = ""
stats table using ( \
    strcol("problem") eq last ? 0 \
        : (last = strcol("problem"), problems = problems + 1, name[problems] = last, final[problems] = NaN), \
    strcol("best_us") eq "" ? 0 : (final[problems] = real(strcol("best_us"))), \
    real(strcol("evaluation")) > longest ? (longest = real(strcol("evaluation"))) : 0, \
    commit eq "" || commit eq strcol("commit") ? 0 : (commits = 1), commit = strcol("commit"), \
    seconds(strcol("date")) < newest ? 0 : (newest = seconds(strcol("date")), \
        (sum [k = 1:words(names)] (of[k] = strcol(word(names, k)), 0))), 0) nooutput
is_number(x) = x == x
worked = sum [k = 1:problems] is_number(final[k])
if (worked == 0) { eval refuse(3, csv . ": no point worked") }
about_of(name) = of[sum [k = 1:words(names)] (word(names, k) eq name ? k : 0)]
caption = about(about_of("device"), about_of("driver"), about_of("commit"), about_of("dirty"), \
                commits, about_of("date"))
caption_lines = lines_of(about_of("device"))
# What the first evaluations gave can be far off; the rest has to be seen under it.
over(k) = k <= problems && strcol("problem") eq name[k] && strcol("best_us") ne "" \
    ? 100 * (real(strcol("best_us")) / final[k] - 1) : NaN
most = 0
do for [k = 1:problems] {
    stats table using (over(k) > most ? (most = over(k)) : 0, 0) nooutput
}
drawn = problems < 7 ? problems : 6
others = problems - drawn

# What the named problems have in common stands once, in the heading.
at = 0
spaced(s) = (at = strstrt(s, ","), at ? s[1:at - 1] . " " . spaced(s[at + 1:*]) : s)
has(k, part) = strstrt("," . name[k] . ",", "," . part . ",") > 0
common(part) = (sum [k = 1:drawn] has(k, part)) == drawn
list = ""
add(part) = (list = list . (list eq "" ? "" : ",") . part, 0)
parts(k, shared) = (list = "", parts_of = spaced(name[k]), \
    (sum [i = 1:words(parts_of)] (common(word(parts_of, i)) == shared ? add(word(parts_of, i)) : 0)), \
    list)
found(k) = is_number(final[k]) ? "best " . rates(final[k]) . " us" : "none worked"
label_of(k) = parts(k, 0) . (parts(k, 0) eq "" ? "" : ": ") . found(k)
heading = sprintf("%s %s, %s,%s: the best time so far, over the best found\n%s", about_of("kernel"), \
                  about_of("dtype"), about_of("residency"), about_of("launch"), parts(1, 1))

height = 640
foot = 76. + 22 * caption_lines
set lmargin 10
set rmargin 3
set bmargin at screen foot / height
set tmargin at screen 1 - 76. / height
if (longest > 60) { set logscale x }
set xrange [1:longest < 2 ? 2 : longest] noextend
# room for the key above the lines, and for a line at 0
span = most == 0 ? 1 : most > 200 ? 200 : most
set yrange [-0.012 * span:span / (1 - 0.05 * (drawn + (others > 0) + 0.6))]
set format y "%g%%"
set xlabel "points measured" offset 0, 0.3
set key top right Right samplen 2.4 spacing 1.05 invert

do for [form in forms] {
    eval draw(form, height)
    plot for [k = drawn + 1:problems] table using "evaluation":(over(k)) with steps \
             lc rgb "#B8B8B8" lw 1.2 dt 1 notitle, \
         for [k = 1:others > 0] NaN with lines lc rgb "#B8B8B8" lw 1.2 dt 1 \
             title sprintf("%d other problems", others), \
         for [k = drawn:1:-1] table using "evaluation":(over(k)) with steps lt k \
             lw (k == 1 ? 4 : 2.5) title label_of(k)
    unset output
}
