# roofline.gp - arithmetic rate against intensity under the roof that memory sets; style.gp says how
# to run it
script = "roofline"
folder = ARG0[1:strstrt(ARG0, "roofline.gp") - 1]
needs = "flops ceiling_gbps"
load folder . "style.gp"

# The roof is the best stream timed: of its own rows, and of those that ran beside the kernels.
roof = 0
stream_of(i) = cell(i, "kernel") eq "stream" ? gbps(i) : ceiling(i)
intensity(i) = number(i, "flops") / (number(i, "read_bytes") + number(i, "write_bytes"))
gflops(i) = number(i, "flops") / number(i, "median_us") / 1e3
left = 1e30
right = 0
low = 1e30
shows(i) = number(i, "flops") > 0
eval keep # those that count operations have a block of $points each
shown = words(kernels)
if (shown == 0) { eval refuse(3, csv . ": no kernel counts its operations") }
array best[shown]
do for [k = 1:shown] { best[k] = 0 }
do for [i = 1:n] {
    if (is_number(stream_of(i)) && stream_of(i) > roof) { roof = stream_of(i) }
}
if (roof == 0) { eval refuse(3, csv . ": no stream was measured, so there is no roof") }
do for [k = 1:words(kernels)] {
    set print $points append
    do for [i = 1:n] {
        if (drawn(i) && cell(i, "kernel") eq word(kernels, k) && shows(i)) {
            print sprintf("%g\t%g", intensity(i), gflops(i))
            if (intensity(i) < left) { left = intensity(i) }
            if (intensity(i) > right) { right = intensity(i) }
            if (gflops(i) < low) { low = gflops(i) }
            share = 100 * gbps(i) / roof
            if (share > best[k]) { best[k] = share }
        }
    }
    print ""
    print ""
    set print
}
many = shown > 7 # then the key has three columns of short lines
key_rows = many ? shown / 3 + 1 : 4
height = 620 + 23 * (key_rows - 4)

set logscale xy
left = left / 1.8
right = right * 1.8
set xrange [left:right]
set yrange [low / 2:right * roof * (2 * right * roof / low) ** (0.0875 * key_rows)] # free for the key
set format y (low > 1e-3 ? "%g" : "%.0e")
set xtics (0.05, 0.1, 0.2, 0.3, 0.5, 0.7, 1, 1.5, 2, 3, 5, 10, 20, 50, 100, 200, 500, 1000)
set lmargin 11
set rmargin 3
set tmargin 3
set bmargin foot + 0.4
set xlabel "operations a byte (least bytes)" offset 0, 0.3
set ylabel "GFLOP/s"
heading = sprintf("Roofline: every problem's best point, %s, %s", dtype, policy_words)
set key top left Left reverse samplen 1.5 maxrows key_rows width (many ? -1 : 1)
share_of(k) = is_cpu ? "" : sprintf(many ? " %.0f%%" : ", best %.0f%% of it", best[k])
roof_title = rates(roof) . (many ? " GB/s, the roof" : " GB/s, the best stream")
if (many) { heading = heading . (is_cpu ? "" : "; %: the best's share of the roof") }

# the look's seven, then others for the colours' next turn
symbols = "7 5 9 13 11 6 4 8 12 10 1 2 3 14"

do for [form in forms] {
    eval draw(form, height)
    plot [left:right] roof * x with lines lw 3 lc rgb "#000000" dt 1 title roof_title, \
         for [k = 1:shown] $points index k - 1 using 1:2 with points lt k \
             pt int(word(symbols, (k - 1) % words(symbols) + 1)) ps 1.5 \
             title word(kernels, k) . share_of(k)
    unset output
}
