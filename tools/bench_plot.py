"""The pictures of tools/bench: each ratio with its interval and its figure, and percentile curves.
gnuplot draws them; where it is absent its scripts stay.
"""
import os
import shutil
import subprocess

HEAD = """# gnuplot script: written by tools/bench
set terminal svg size {width},{height} dynamic background rgb "white"
set output "{output}"
set grid
"""
SIGNS = {"at least": ">=", "at most": "<="}


def quoted(text):
    """As gnuplot reads it as it is."""
    return "'" + text.replace("'", "''") + "'"


def block(name, lines):
    """Data in the script itself."""
    return "\n".join([f"${name} << END", *lines, "END", ""])


def ratio_script(rows, output):
    """A line for each figure: interval, median, and what it is to reach."""
    shown = [row for row in rows if row["kind"] == "ratio" and row["goal"] in SIGNS]
    lines, labels = [], []
    for at, row in enumerate(reversed(shown)):
        lines.append(f"{at} {row['ratio']:.4f} {row['ratio_low']:.4f} {row['ratio_high']:.4f} "
                     f"{row['limit']:.4f} {0 if row['met'] else 1}")
        labels.append(quoted(f"{row['name']} {SIGNS[row['goal']]} {row['limit']:g}") + f" {at}")
    return (HEAD.format(width=1000, height=120 + 22 * len(shown), output=output) +
            block("ratios", lines) + f"""set title "ratios: median and 95 % interval, in red those that miss"
set yrange [-1:{len(shown)}]
set ytics ({', '.join(labels)}) noenhanced
set logscale x 2
set xlabel "ours / reference"
set key off
set palette defined (0 "dark-green", 1 "red")
set cbrange [0:1]
unset colorbox
plot $ratios using 5:1 with points pt 2 lc rgb "gray40", \\
     $ratios using 2:1:3:4:6 with xerrorbars pt 7 lc palette
""")


def curve_script(row, output):
    """Percentiles as HdrHistogram draws them: the tail as wide as the rest."""
    names = [f"curve{i}" for i in range(len(row["curves"]))]
    data = "".join(block(name, (f"{1 / (1 - percent / 100):.3f} {value:.1f}"
                                for percent, value in zip(row["percents"], values)))
                   for name, values in zip(names, row["curves"].values()))
    ticks = ", ".join(f'"{percent:g} %%" {1 / (1 - percent / 100):.3f}' for percent in row["percents"])
    plots = ", \\\n     ".join(f"${name} with linespoints lw 2 title {quoted(title)} noenhanced"
                              for name, title in zip(names, row["curves"]))
    return (HEAD.format(width=900, height=500, output=output) + data +
            f"set title {quoted(row['text'])}\nset logscale x 10\nset xtics ({ticks})\n"
            f"set xlabel \"percentile\"\nset ylabel \"{row['unit']}\"\nset key left top\n"
            f"plot {plots}\n")


def draw(script, folder, name):
    """The picture's name, or the script's where nobody draws it."""
    path = os.path.join(folder, f"{name}.gp")
    with open(path, "w", encoding="utf-8") as file:
        file.write(script)
    if not shutil.which("gnuplot"):
        return f"{name}.gp"
    answer = subprocess.run(["gnuplot", f"{name}.gp"], cwd=folder, stdin=subprocess.DEVNULL,
                            check=False, timeout=60)
    return f"{name}.gp" if answer.returncode else f"{name}.svg"  # what was wrong, it said


def write_plots(rows, folder):
    """All that there is to draw: their names."""
    drawn = []
    if any(row["kind"] == "ratio" and row["goal"] in SIGNS for row in rows):
        drawn.append(draw(ratio_script(rows, "ratios.svg"), folder, "ratios"))
    for row in rows:
        if row["kind"] == "curve":
            drawn.append(draw(curve_script(row, f"{row['name']}.svg"), folder, row["name"]))
    return drawn
