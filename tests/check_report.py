"""check_report.py REPORT.html SECTION,... [PICTURE=COUNT...] - the DOM of a report.

Every section must be there once and hold a picture, a table or a sentence; every picture must have
drawn something beside its axes (COUNT marks at least, 1 where none is named); nothing may be fetched
from anywhere; ids are unique and what refers to one finds it. Prints "ok N - NAME" or "not ok ...".
"""
import html.parser
import re
import sys

VOID = {"meta", "br", "hr", "img", "link", "input"}
MARKS = {"use", "path", "polygon", "rect", "line", "circle", "polyline"}


class Node:
    def __init__(self, tag, attributes, parent):
        self.tag, self.attributes, self.parent = tag, dict(attributes), parent
        self.children, self.text = [], ""

    def all(self, tag=None):
        for child in self.children:
            if tag is None or child.tag == tag:
                yield child
            yield from child.all(tag)

    def words(self):
        return self.text + "".join(child.words() for child in self.children)


class Reader(html.parser.HTMLParser):
    def __init__(self):
        super().__init__()
        self.root = self.at = Node("", [], None)
        self.wrong = []

    def handle_starttag(self, tag, attributes):
        node = Node(tag, attributes, self.at)
        self.at.children.append(node)
        if tag not in VOID:
            self.at = node

    def handle_startendtag(self, tag, attributes):
        self.at.children.append(Node(tag, attributes, self.at))

    def handle_endtag(self, tag):
        if self.at.tag != tag:
            self.wrong.append(f"</{tag}> where <{self.at.tag}> is open, line {self.getpos()[0]}")
        elif self.at.parent is not None:
            self.at = self.at.parent

    def handle_data(self, data):
        self.at.text += data

    def unknown_decl(self, data):  # <![CDATA[...]]>, as gnuplot writes texts
        self.at.text += data


number = failures = 0


def verdict(name, good, why=""):
    global number, failures
    number += 1
    failures += not good
    print(f"ok {number} - {name}" if good else f"not ok {number} - {name}: {why}")


def drawn(svg):
    """Marks of the plots, which gnuplot groups; axes and tics stand outside of them."""
    groups = [g for g in svg.all("g") if "gnuplot_plot_" in g.attributes.get("id", "")]
    count = 0
    for group in groups:
        for mark in group.all():
            if mark.tag == "path":
                count += max(0, len(re.findall(r"[ML]", mark.attributes.get("d", ""))) - 1)
            elif mark.tag in MARKS:
                count += 1
    return count


def outside(node):
    """What a browser would fetch, or run."""
    if node.tag in ("script", "link", "iframe", "object", "embed", "base"):
        yield f"<{node.tag}>"
    for name, value in node.attributes.items():
        if name.startswith("xmlns"):
            continue
        if name in ("src", "srcset", "action", "background") or (
                name in ("href", "xlink:href") and not (value or "").startswith("#")):
            yield f"{name}={value}"
        if name.startswith("on"):
            yield f"{name}="
        for url in re.findall(r"url\(\s*['\"]?([^)'\"]*)", value or ""):
            if not url.startswith("#"):
                yield f"{name}=url({url})"


def main():
    path, sections = sys.argv[1], sys.argv[2].split(",")
    least = dict(pair.split("=") for pair in sys.argv[3:])
    text = open(path, encoding="utf-8").read()
    reader = Reader()
    reader.feed(text)
    root = reader.root
    verdict("every element is closed", not reader.wrong and reader.at is root,
            "; ".join(reader.wrong[:3]) or f"<{reader.at.tag}> is open")

    ids = [n.attributes["id"] for n in root.all() if n.attributes.get("id")]
    twice = sorted({i for i in ids if ids.count(i) > 1})
    verdict("ids are unique", not twice, " ".join(twice[:5]))
    lost = sorted({v[1:] for n in root.all() for k, v in n.attributes.items()
                   if k in ("href", "xlink:href") and v.startswith("#") and v[1:] not in ids})
    verdict("links lead somewhere", not lost, " ".join(lost[:5]))
    found = [what for n in root.all() for what in outside(n)]
    style = "".join(n.words() for n in root.all("style"))
    found += re.findall(r"@import|url\(", style)
    verdict("nothing is fetched and nothing runs", not found, "; ".join(found[:5]))
    verdict("dark and printed have a look",
            "prefers-color-scheme:dark" in style and "@media print" in style)

    by_id = {n.attributes.get("id"): n for n in root.all("section")}
    for wanted in sections:
        node = by_id.get(wanted)
        verdict(f"section {wanted}", node is not None, "not there")
        if node is None:
            continue
        headings = {"h2", "h3", "h4"}
        verdict(f"section {wanted} says something",
                any(n.tag in ("figure", "table", "p", "nav") for n in node.all())
                or wanted + "-" in " ".join(by_id), "only " + ", ".join(headings))
    missing = [n for n in root.all("p") if n.attributes.get("class") == "missing"]
    silent = [n.words() for n in missing
              if not [c for c in n.all("code") if len(c.words().split()) > 1]]
    verdict("what is missing names its command", not silent, "; ".join(silent[:2]))

    figures = {n.attributes.get("id", ""): n for n in root.all("figure")}
    for name, figure in figures.items():
        svgs = list(figure.all("svg"))
        marks = sum(drawn(svg) for svg in svgs)
        wanted = int(least.get(name.removeprefix("picture-"), 1))
        verdict(f"{name} has {wanted} marks or more", len(svgs) == 1 and marks >= wanted,
                f"{len(svgs)} pictures, {marks} marks")
        caption = "".join(c.words() for c in figure.all("figcaption"))
        verdict(f"{name} says where it is from",
                re.search(r"\S.*, commit \w+.*, \d{4}-\d\d-\d\d", caption), caption)
    for name in least:
        verdict(f"picture {name}", "picture-" + name in figures, "not there")
    empty = [t.words()[:40] for t in root.all("table") if len(list(t.all("tr"))) < 2]
    verdict("no table is empty", not empty, "; ".join(empty))
    numbers = [c.words() for c in root.all("td") if re.search(r"\b(nan|inf)\b", c.words())]
    verdict("no cell is nan", not numbers, " ".join(numbers[:5]))
    sys.exit(failures > 0)


main()
