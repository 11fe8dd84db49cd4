# convergence.gp - the mean best time over the best of a space, against evaluations; a panel a space
#
#   gnuplot -e "csv='DIR/convergence.csv'; out='DIR'" convergence.gp
# The file is what `fastinfer replay --plot DIR` writes. Exit codes: 2 the file is not what was
# expected, 3 it is another table.
set encoding utf8
# print "..." inside eval: no double quotes in the sentence
refuse(code, sentence) = sprintf("set print '-'; set print; print \"convergence.gp: %s\"; exit status %d", \
                                 sentence, code)
if (!exists("csv")) { eval refuse(2, "csv='DIR/convergence.csv' was expected, by gnuplot -e") }
if (!exists("out")) { out = "." }
if (strstrt(csv . out, "'")) { eval refuse(2, "a path without quotes was expected") }
header = system("head -n 1 '" . csv . "'")
if (header eq "") { eval refuse(2, csv . ": cannot be read") }
if (strstrt(header, "space,strategy,evaluation,mean_ms,random_ms,best_ms") != 1) {
    eval refuse(3, csv . ": holds no searches")
}

set datafile separator ","
distinct(column) = system(sprintf("awk -F, 'NR > 1 && !seen[$%d]++ { print $%d }' '%s'", \
                                  column, column, csv))
spaces = distinct(1)
strategies = distinct(2)
if (spaces eq "") { eval refuse(3, csv . ": holds no searches") }
rows(space, strategy) = sprintf("< awk -F, '$1 == \"%s\" && $2 == \"%s\"' '%s'", space, strategy, csv)

# Okabe and Ito's colours, dark enough on white; each with a dash of its own.
set linetype 1 lc rgb "#0072B2" lw 2.5 dt 1
set linetype 2 lc rgb "#D55E00" lw 2.5 dt (12, 4)
set linetype 3 lc rgb "#009E73" lw 2.5 dt (4, 4)
set linetype 4 lc rgb "#CC79A7" lw 2.5 dt (14, 4, 3, 4)
set linetype 5 lc rgb "#E69F00" lw 2.5 dt (8, 3, 2, 3, 2, 3)
set linetype 6 lc rgb "#56B4E9" lw 2.5 dt (2, 3)
set linetype cycle 6
ink = "#404040"
set border 3 lc rgb ink lw 1.2
set tics nomirror textcolor rgb "#202020"
set grid xtics ytics lc rgb "#DDDDDD" lt 1 lw 1 dt 1
set logscale x
set xrange [1:*] noextend
set key top right Right samplen 2.5 noenhanced

panels = words(spaces)
across = panels > 4 ? 3 : panels > 1 ? 2 : 1
down = (panels + across - 1) / across
height = down < 2 ? 620 : 360 * down + 60
do for [form in forms] {
    if (form eq "svg") {
        set terminal svg size 1000,height dynamic font "sans-serif,16" background "#ffffff"
    } else {
        set terminal pngcairo size 1000,height font "Sans,12"
    }
    set output out . "/convergence." . form
    set multiplot layout down, across title "Search: mean best so far, over the best of the space" \
        noenhanced
    do for [space in spaces] {
        # what random search has after a few evaluations is high enough to see the rest under it
        top = real(system(sprintf("awk -F, '$1 == \"%s\" && $3 <= 5 { r = $5 / $6 } END { print r }' '%s'", \
                                  space, csv)))
        set title space noenhanced
        set xlabel "evaluations" offset 0, 0.4
        set ylabel "time over best" offset 1, 0
        set yrange [1:top]
        plot rows(space, word(strategies, 1)) using 3:($5 / $6) with lines lw 2 lc rgb "#000000" \
                 dt (2, 4) title "random, expected", \
             for [k = 1:words(strategies)] rows(space, word(strategies, k)) using 3:($4 / $6) \
                 with lines lt k title word(strategies, k)
        unset key
    }
    set key
    unset multiplot
    unset output
}
