/*
 * Which backend a loop gets, and the words for it. A named one never changes; auto takes another
 * only where io_uring is not there, never because of a limit.
 */
#include "loop.h"

#include <errno.h>
#include <stdarg.h>
#include <stdio.h>
#include <string.h>

#define OPS_MIN        64u
#define SEND_QUEUE_MAX (1u << 30)

/* One line, built up piece by piece; what does not fit is cut. */
struct line {
    char *text;
    size_t bytes;
};

static void say(struct line *line, const char *fmt, ...) __attribute__((format(printf, 2, 3)));

static void say(struct line *line, const char *fmt, ...)
{
    if (line->bytes == 0)
        return;
    size_t length = strlen(line->text);
    va_list ap;
    va_start(ap, fmt);
    vsnprintf(line->text + length, line->bytes - length, fmt, ap);
    va_end(ap);
}

/* Not there, as opposed to a limit: something else may stand in. */
static bool is_absent(int err)
{
    return err == -ENOSYS || err == -EPERM;
}

static const char *uring_refusal(int err)
{
    switch (err) {
    case -ENOSYS:
        return "io_uring: ENOSYS: this kernel has none, or seccomp hides it, or this build lacks "
               "it";
    case -EPERM:
        return "io_uring: EPERM: kernel.io_uring_disabled or a seccomp profile refuses it";
    case -EINVAL:
        return "io_uring: EINVAL: this kernel's is too old";
    case -ENOTSUP:
        return "io_uring: no NAPI busy polling in this kernel (Linux 6.9): leave napi_busy_poll_us "
               "at 0";
    case -ENOMEM:
        return "io_uring: ENOMEM: raise the memlock limit (ulimit -l, LimitMEMLOCK=)";
    case -EMFILE:
    case -ENFILE:
        return "io_uring: no descriptor left: raise the nofile limit (ulimit -n)";
    default:
        return strerror(-err);
    }
}

/* ---- what is asked for ---- */

enum wanted { WANT_ANY, WANT_URING, WANT_EV, WANT_NONSENSE };

static bool is_auto(const char *text)
{
    return !text || strcmp(text, "auto") == 0;
}

/* "ev:NAME" is the same as "ev" and that event. */
static enum wanted read_wish(const struct sluice_loop_config *cfg, const char **event)
{
    const char *backend = cfg->backend;
    *event = is_auto(cfg->event) ? NULL : cfg->event;
    if (is_auto(backend))
        return *event ? WANT_EV : WANT_ANY;
    if (strcmp(backend, "uring") == 0)
        return *event ? WANT_NONSENSE : WANT_URING;
    if (strcmp(backend, "ev") == 0)
        return WANT_EV;
    if (strncmp(backend, "ev:", 3) != 0 || (*event && strcmp(*event, backend + 3) != 0))
        return WANT_NONSENSE;
    *event = backend + 3;
    return WANT_EV;
}

/* ---- the two of them ---- */

static int try_uring(struct sluice_loop **out, const struct sluice_loop_config *cfg,
                     struct line *why)
{
    int err = sluice_loop_create_on(out, &sluice_backend_uring, cfg, 0);
    if (err)
        say(why, "%s", uring_refusal(err));
    return err == -EINVAL ? -ENOSYS : err; /* with every set of flags: as good as none */
}

static void say_mechanisms(struct line *why)
{
    struct sluice_backend_feature rows[16];
    const char *before = "";
    int n = sluice_backend_ev.features(rows, 16);
    for (int i = 0; i < n; i++) {
        if (!rows[i].have)
            continue;
        say(why, "%s%s", before, rows[i].name + strlen("ev."));
        before = ", ";
    }
}

static int try_ev(struct sluice_loop **out, const struct sluice_loop_config *cfg, const char *event,
                  struct line *why)
{
    struct sluice_loop_config on_event = *cfg;
    on_event.event = event;
    int err = sluice_loop_create_on(out, &sluice_backend_ev, &on_event, 0);
    if (err == 0)
        return 0;
    say(why, "ev%s%s: ", event ? ":" : "", event ? event : "");
    if (is_absent(err) || err == -EINVAL) {
        say(why, "%s; there are ",
            err == -EINVAL ? "no such event mechanism" : "libev or the kernel does not have it");
        say_mechanisms(why);
    } else if (err == -ENOTSUP) {
        say(why, "NAPI busy polling and SQPOLL are io_uring's: leave them at 0");
    } else if (err == -ERANGE) {
        say(why, "a descriptor of this process is too high for it: take epoll or poll");
    } else if (err == -EMFILE || err == -ENFILE) {
        say(why, "no descriptor left: raise the nofile limit (ulimit -n)");
    } else {
        say(why, "%s", strerror(-err));
    }
    return err;
}

static void keep_reason(struct sluice_loop *loop, const char *reason)
{
    struct line line = {.text = loop->backend_reason, .bytes = sizeof(loop->backend_reason)};
    say(&line, "%s; %s", reason, loop->be->detail);
}

/* io_uring, or what stands in for it where it is not there. */
static int create_any(struct sluice_loop **out, const struct sluice_loop_config *cfg,
                      struct line *why)
{
    int err = try_uring(out, cfg, why);
    if (err == 0) {
        keep_reason(*out, "io_uring is usable here");
        return 0;
    }
    if (!is_absent(err) || cfg->napi_busy_poll_us || cfg->sqpoll_idle_ms)
        return err;
    const char *refusal = uring_refusal(err);
    say(why, "; ");
    err = try_ev(out, cfg, NULL, why);
    if (err == 0)
        keep_reason(*out, refusal);
    return err;
}

int sluice_loop_create(struct sluice_loop **out, const struct sluice_loop_config *cfg, char *why,
                       size_t why_bytes)
{
    char unheard[1] = "";
    struct line line = {.text = why ? why : unheard, .bytes = why ? why_bytes : 0};
    const char *event;
    enum wanted wanted = read_wish(cfg, &event);
    int err = -EINVAL;
    *out = NULL;
    if (line.bytes > 0)
        line.text[0] = 0;
    if (wanted == WANT_NONSENSE) {
        say(&line, "no such backend: there are uring, and ev with an event mechanism (and auto)");
        return err;
    }
    if (cfg->ops_max && cfg->ops_max < OPS_MIN) {
        say(&line, "ops_max: 64 at least: a channel alone watches 33 descriptors");
        return err;
    }
    if (cfg->recv_bufs > SLUICE_POOL_MAX || cfg->send_queue_bytes > SEND_QUEUE_MAX) {
        say(&line, "recv_bufs: %u at most; send_queue_bytes: %u at most", SLUICE_POOL_MAX,
            SEND_QUEUE_MAX);
        return err;
    }
    if (wanted == WANT_ANY)
        err = create_any(out, cfg, &line);
    else if (wanted == WANT_URING)
        err = try_uring(out, cfg, &line);
    else
        err = try_ev(out, cfg, event, &line);
    if (err)
        return err;
    (*out)->asked_for = wanted != WANT_ANY;
    if ((*out)->asked_for)
        keep_reason(*out, "asked for");
    if (line.bytes > 0)
        line.text[0] = 0;
    return 0;
}
