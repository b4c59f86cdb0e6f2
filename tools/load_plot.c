/*
 * sluice load --plot: percentiles and the time line as a gnuplot script with its data in it, drawn
 * by gnuplot where there is one.
 */
#include "load_report.h"

#include "fail.h"

#include <errno.h>
#include <inttypes.h>
#include <math.h>
#include <spawn.h>
#include <stdlib.h>
#include <string.h>
#include <sys/wait.h>

#define POINTS_PER_DECADE 20.0

extern char **environ;

static bool ends_with(const char *text, const char *end)
{
    size_t n = strlen(text), k = strlen(end);
    return n > k && strcmp(text + n - k, end) == 0;
}

static void write_curve(FILE *out, const char *name, const struct hist *h)
{
    fprintf(out, "$%s << END\n", name);
    for (double i = 0;; i++) {
        double x = pow(10, i / POINTS_PER_DECADE);
        bool last = x >= (double)h->count;
        double percent = last ? 100 : 100 * (1 - 1 / x);
        fprintf(out, "%.3f %.3f\n", last ? (double)h->count : x,
                (double)hist_percentile(h, percent) / 1e3);
        if (last)
            break;
    }
    fputs("END\n", out);
}

static void write_time_line(FILE *out, const struct load *load)
{
    fputs("$times << END\n", out);
    for (uint32_t i = 0; i < load->moment_count; i++) {
        const struct load_moment *m = &load->moments[i];
        fprintf(out, "%.3f %.1f %.3f %.3f %.3f\n", (double)m->to_ns / 1e9, m->per_s,
                (double)m->p50_ns / 1e3, (double)m->p99_ns / 1e3, (double)m->max_ns / 1e3);
    }
    fputs("END\n", out);
}

/* In single quotes gnuplot takes everything as it is; in double ones backquotes run commands. */
static void write_quoted(FILE *out, const char *text)
{
    fputc('\'', out);
    for (; *text; text++) {
        if (*text == '\'')
            fputc('\'', out);
        fputc(*text == '\n' ? ' ' : *text, out);
    }
    fputc('\'', out);
}

static void write_plots(FILE *out, const struct load *load)
{
    bool has_latency = load->total.latency.count > 0;
    bool by_rate = load->total.service.count > 0;
    fprintf(out, "set multiplot layout %d,1 title ", has_latency ? 2 : 1);
    write_quoted(out, load->plan.target);
    fprintf(out, " . ': %s' noenhanced\n", load->plan.mode_name);
    fputs("set grid\nset key left top\n", out);
    if (has_latency) {
        fputs("set logscale x 10\nset logscale y 10\nset xlabel \"percentile\"\n"
              "set ylabel \"latency, us\"\n"
              "set xtics (\"0 %%\" 1, \"90 %%\" 10, \"99 %%\" 100, \"99.9 %%\" 1000, \"99.99 %%\" "
              "10000, \"99.999 %%\" 100000)\n",
              out);
        fprintf(out, "plot $latency with lines lw 2 title \"%s\"%s\n",
                by_rate ? "since it was due" : "latency",
                by_rate ? ", $uncorrected with lines lw 2 title \"uncorrected\"" : "");
    }
    fputs("unset logscale x\nset xtics auto\nset xlabel \"s\"\n", out);
    if (has_latency)
        fputs("plot $times using 1:3 with linespoints title \"p50, us\", $times using 1:4 with "
              "linespoints title \"p99, us\", $times using 1:5 with linespoints title \"max, "
              "us\"\n",
              out);
    else
        fputs("set ylabel \"per second\"\n"
              "plot $times using 1:2 with linespoints title \"MB/s or connections\"\n",
              out);
    fputs("unset multiplot\n", out);
}

static int write_script(const struct load *load, const char *path, const char *picture)
{
    FILE *out = fopen(path, "w");
    if (!out)
        return fail_errno(-errno, "--plot %s", path);
    fprintf(out, "# gnuplot script: written by sluice load\n");
    if (picture) {
        fprintf(out, "set terminal %s size 900,900\nset output ",
                ends_with(picture, ".png") ? "pngcairo" : "svg");
        write_quoted(out, picture);
        fputc('\n', out);
    }
    if (load->total.latency.count)
        write_curve(out, "latency", &load->total.latency);
    if (load->total.service.count)
        write_curve(out, "uncorrected", &load->total.service);
    write_time_line(out, load);
    write_plots(out, load);
    bool failed = ferror(out);
    return fclose(out) || failed ? fail_errno(errno ? -errno : -EIO, "--plot %s", path) : 0;
}

/* 0, an exit code, or -ENOENT without a gnuplot. */
static int run_gnuplot(const char *script)
{
    char *argv[] = {(char[]){"gnuplot"}, strdup(script), NULL};
    pid_t pid;
    int status, err = posix_spawnp(&pid, argv[0], NULL, NULL, argv, environ);
    free(argv[1]);
    if (err == ENOENT)
        return -ENOENT;
    if (err)
        return fail_errno(-err, "gnuplot");
    while (waitpid(pid, &status, 0) < 0 && errno == EINTR) {
        /* a signal for us */
    }
    return status == 0 ? 0
                       : fail_remedy(SLUICE_REASON_UNSUPPORTED, "run gnuplot on it by hand",
                                     "gnuplot %s", script);
}

bool plot_name_ok(const char *path)
{
    return ends_with(path, ".svg") || ends_with(path, ".png") || ends_with(path, ".gp");
}

int report_plot(const struct load *load)
{
    const char *path = load->plan.options->plot;
    if (ends_with(path, ".gp"))
        return write_script(load, path, NULL);
    char script[4096];
    snprintf(script, sizeof(script), "%.*s.gp", (int)(strrchr(path, '.') - path), path);
    int failed = write_script(load, script, path);
    if (failed)
        return failed;
    failed = run_gnuplot(script);
    if (failed == -ENOENT) {
        sluice_log(SLUICE_LOG_WARN, "--plot %s: no gnuplot here: its script is %s", path, script);
        return 0;
    }
    remove(script);
    return failed;
}
