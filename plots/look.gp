# look.gp - what every picture shares: finding the CSV and its columns, the look, the caption.
#
# A script sets `script`, its name, and `needs`, the columns it reads, and loads this file. It then
# has
#   table, header        the CSV with tabs between its fields, its first line
#   refuse(code, words)  for eval: ends the script, 2 the file is not what was expected, 3 it is, but
#                        holds nothing for this picture
#   about(device, driver, commit, dirty, others, date)  a caption; caption_lines must be set too
#   forms                "svg png", or what was set
#   draw(form, height)   for eval: opens OUT/<script>.<form>, 1000 wide, with `heading` above and
#                        `caption` below
set encoding utf8
# print "..." inside eval: no double quotes in the sentence
refuse(code, sentence) = sprintf("set print '-'; set print; print \"%s: %s\"; exit status %d", \
                                 script . ".gp", sentence, code)
if (!exists("csv")) { eval refuse(2, "csv='FILE.csv' was expected, by gnuplot -e") }
if (!exists("out")) { out = "." }
if (!exists("forms")) { forms = "svg png" }
shell_word(s) = "'" . s . "'"
if (strstrt(csv . out, "'")) { eval refuse(2, "a path without quotes was expected") }
if (system("test -r " . shell_word(csv) . " && echo yes") ne "yes") {
    eval refuse(2, csv . ": cannot be read")
}

# gnuplot cuts a quoted field at its first comma; so: tabs for the commas outside quotes.
table = "< awk -F'\"' -v OFS= '{ for (i = 1; i <= NF; i += 2) gsub(/,/, \"\\t\", $i); print }' " \
        . shell_word(csv)
set datafile separator "\t"

header = system("head -n 1 " . shell_word(csv))
if (header eq "") { eval refuse(2, csv . ": holds no measurement") }
absent = ""
do for [name in needs] {
    if (!strstrt("," . header . ",", "," . name . ",")) { absent = absent . " " . name }
}
if (absent ne "") { eval refuse(2, csv . ": has no column" . absent) }
if (int(system("grep -c . " . shell_word(csv))) < 2) {
    eval refuse(2, csv . ": holds no measurement")
}

# --- the caption ---------------------------------------------------------------------------------
is_cpu_device(device) = substr(device, 1, 3) eq "CPU"
about(device, driver, commit, dirty, others, date) = \
    (is_cpu_device(device) ? "CPU device: emulation times\n" : "") . device \
    . (driver eq "" ? "" : ", driver " . driver) . ", commit " . substr(commit, 1, 10) \
    . (dirty eq "1" ? " (modified)" : "") . (others ? " and others" : "") . ", " . substr(date, 1, 10)
lines_of(device) = is_cpu_device(device) ? 2 : 1

# --- the look ------------------------------------------------------------------------------------
# Okabe and Ito's colours, dark enough on white; each with a point and a dash of its own.
set linetype 1 lc rgb "#0072B2" lw 2.5 pt 7  dt 1          # blue, disc
set linetype 2 lc rgb "#D55E00" lw 2.5 pt 5  dt (12, 4)    # vermilion, square
set linetype 3 lc rgb "#009E73" lw 2.5 pt 9  dt (4, 4)     # green, triangle
set linetype 4 lc rgb "#CC79A7" lw 2.5 pt 13 dt (14, 4, 3, 4) # purple, diamond
set linetype 5 lc rgb "#E69F00" lw 2.5 pt 11 dt (8, 3, 2, 3, 2, 3) # orange, triangle down
set linetype 6 lc rgb "#56B4E9" lw 2.5 pt 6  dt (2, 3)     # sky, ring
set linetype 7 lc rgb "#000000" lw 2.5 pt 4  dt (6, 6)     # black, open square
set linetype cycle 7
ink = "#404040"
set pointsize 1.3
set border 3 lc rgb ink lw 1.2
set tics nomirror textcolor rgb "#202020"
set grid xtics ytics lc rgb "#DDDDDD" lt 1 lw 1 dt 1
set key noenhanced
unset mxtics
unset mytics

# Commands for eval: opens OUT/<script>.<form>, 1000 wide, with `heading` above, the caption below.
heading = ""
terminal(form, height) = form eq "svg" \
    ? sprintf("set terminal svg size 1000,%d dynamic font 'sans-serif,18' background '#ffffff'", height) \
    : sprintf("set terminal pngcairo size 1000,%d font 'Sans,14' background '#ffffff'", height)
draw(form, height) = terminal(form, height) . sprintf("; system(\"mkdir -p '%s'\")", out) \
    . sprintf("; set output '%s/%s.%s'", out, script, form) \
    . sprintf("; set label 100 caption at screen 0.012, screen %f left noenhanced textcolor rgb ink", \
              (14. + 22 * (caption_lines - 1)) / height) \
    . sprintf("; set label 101 heading at screen 0.5, screen %f center noenhanced", \
              1 - 20. / height)
rates(x) = sprintf(x >= 100 ? "%.0f" : x >= 10 ? "%.1f" : x >= 0.1 ? "%.2f" : "%.2g", x)
