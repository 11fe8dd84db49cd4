/* page_style.h - the look of report.html: light, dark and printed. */
#ifndef FASTINFER_CLI_PAGE_STYLE_H
#define FASTINFER_CLI_PAGE_STYLE_H

#define PAGE_DARK                                                                                  \
    "--ground:#14171a;--paper:#1b1f23;--ink:#e6e8ea;--soft:#a7adb3;--line:#353b41;--link:#7cc0f0;" \
    "--plot-ink:#e6e8ea;--plot-soft:#b4bac0;--plot-black:#f4f5f6;--plot-grid:#343a40;"             \
    "--plot-faint:#5c646c;--plot-grey:#9aa2aa;--plot-blue:#4aa8e8;--plot-vermilion:#f0803c;"       \
    "--plot-green:#35c79a;--plot-purple:#e09cc4;--plot-orange:#f0b429;--plot-sky:#8fd0f5;"         \
    "--plot-navy:#9fd0f0"

static const char page_style[] =
    ":root{color-scheme:light dark;--ground:#f6f7f8;--paper:#fff;--ink:#1c2126;--soft:#59626b;"
    "--line:#d9dde1;--link:#005a9c}"
    "@media (prefers-color-scheme:dark){:root{" PAGE_DARK "}}"
    "*{box-sizing:border-box}"
    "html{scroll-behavior:smooth;-webkit-text-size-adjust:100%}"
    "body{margin:0 auto;max-width:66rem;padding:1.5rem 1rem 4rem;background:var(--ground);"
    "color:var(--ink);font:1rem/1.55 system-ui,sans-serif}"
    "h1{font-size:1.9rem;line-height:1.2;margin:.5rem 0}"
    "h2{font-size:1.5rem;line-height:1.25;margin:3rem 0 .5rem;padding-top:1rem;"
    "border-top:2px solid var(--ink)}"
    "h3{font-size:1.2rem;margin:2.2rem 0 .4rem}h4{font-size:1.02rem;margin:1.6rem 0 .3rem}"
    "p{margin:.5rem 0;max-width:46rem;overflow-wrap:anywhere}"
    "a{color:var(--link)}"
    "code{font:.92em/1.4 ui-monospace,monospace;overflow-wrap:anywhere}"
    ".missing{border-left:4px solid var(--line);padding:.3rem .8rem;color:var(--soft)}"
    "nav ul{display:flex;flex-wrap:wrap;gap:.2rem 1.1rem;padding:0;list-style:none;"
    "margin:.6rem 0}"
    "figure{margin:1rem 0;padding:.7rem .7rem .4rem;background:var(--paper);"
    "border:1px solid var(--line);border-radius:6px;break-inside:avoid}"
    ".scroll{overflow-x:auto}"
    "figure svg{display:block;width:100%;min-width:34rem;height:auto}"
    "figcaption{color:var(--soft);font-size:.9rem;margin:.5rem .2rem;max-width:46rem}"
    "table{border-collapse:collapse;font-size:.9rem;font-variant-numeric:tabular-nums}"
    "caption{text-align:left;color:var(--soft);padding:.3rem 0}"
    "caption span{display:inline-block;position:sticky;left:0;max-width:calc(100vw - 2.5rem)}"
    ".facts td{white-space:normal}"
    "th,td{padding:.18rem .7rem .18rem 0;text-align:left;border-bottom:1px solid var(--line);"
    "white-space:nowrap}"
    "th{font-weight:600;vertical-align:bottom}thead th{white-space:normal;border-bottom:2px solid "
    "var(--soft)}"
    "td.n,th.n{text-align:right}"
    "footer{margin-top:3rem;color:var(--soft);font-size:.9rem}"
    "@media print{@page{margin:14mm}:root{color-scheme:light;--ground:#fff;--paper:#fff;"
    "--ink:#000;--soft:#444;--line:#bbb;--link:#000;--plot-ink:#202020;--plot-soft:#404040;"
    "--plot-black:#000;--plot-grid:#ddd;--plot-faint:#b8b8b8;--plot-grey:#808080;"
    "--plot-blue:#0072b2;--plot-vermilion:#d55e00;--plot-green:#009e73;--plot-purple:#cc79a7;"
    "--plot-orange:#e69f00;--plot-sky:#56b4e9;--plot-navy:#003f63}"
    "body{max-width:none;padding:0;font-size:10pt}nav{display:none}table{font-size:7.5pt}"
    ".scroll{overflow:visible}figure{border:0;padding:0}figure svg{min-width:0}"
    "h2,h3,h4{break-after:avoid}tr{break-inside:avoid}thead{display:table-header-group}}";

#endif
