/*
 * An engine from options: a loop, its channels and transports, with core, priority and locked
 * memory as asked for. Runs on the thread that opens it. Signals and what is printed are the
 * command's.
 */
#include "engine.h"

#include "fail.h"
#include "option_tls.h"

#include <errno.h>
#include <inttypes.h>
#include <limits.h>
#include <sched.h>
#include <stdlib.h>
#include <string.h>
#include <sys/mman.h>
#include <sys/prctl.h>
#include <sys/resource.h>
#include <linux/capability.h>
#include <unistd.h>

/* ---- what the library would pass over ---- */

static int check_resolve(const struct option_list *list)
{
    for (uint32_t i = 0; i < list->count; i++) {
        const char *host_end = strchr(list->items[i], ':');
        const char *port_end = host_end ? strchr(host_end + 1, ':') : NULL;
        size_t digits = host_end ? strspn(host_end + 1, "0123456789") : 0;
        if (!port_end || host_end == list->items[i] || digits == 0 ||
            host_end + 1 + digits != port_end || port_end[1] == 0)
            return fail_remedy(SLUICE_REASON_USAGE, "write HOST:PORT:ADDRESS", "--resolve '%s'",
                               list->items[i]);
    }
    return 0;
}

/* ---- where it runs ---- */

/* To the first one; the others are for its threads, and are tried before anything starts. */
static int pin(const struct option_cores *cores)
{
    cpu_set_t set;
    int64_t core = 0;
    bool ok = true;
    for (uint32_t i = cores->count; ok && i-- > 0;) {
        core = cores->core[i];
        CPU_ZERO(&set);
        CPU_SET((size_t)core, &set);
        ok = sched_setaffinity(0, sizeof(set), &set) == 0;
    }
    if (ok)
        return 0;
    if (errno == EINVAL)
        return fail_remedy(SLUICE_REASON_USAGE,
                           "choose a core that this process may use (taskset -pc $$)",
                           "--core %" PRId64 ": no such core", core);
    return fail_errno(-errno, "--core %" PRId64, core);
}

static int set_fifo(int64_t priority)
{
    struct sched_param param = {.sched_priority = (int)priority};
    if (priority < 0 || sched_setscheduler(0, SCHED_FIFO, &param) == 0)
        return 0;
    return fail_remedy(SLUICE_REASON_DENIED,
                       "raise RLIMIT_RTPRIO (ulimit -r) or grant CAP_SYS_NICE",
                       "--fifo %" PRId64 " (%s)", priority, strerror(errno));
}

/* What is mapped later (clients' rings, threads' stacks) is locked too where no limit could make
 * that mapping fail. */
static int lock_flags(const struct rlimit *limit)
{
    bool unlimited = limit->rlim_cur == RLIM_INFINITY ||
                     (geteuid() == 0 && prctl(PR_CAPBSET_READ, CAP_IPC_LOCK, 0, 0, 0) == 1);
    return unlimited ? MCL_CURRENT | MCL_FUTURE : MCL_CURRENT;
}

static int lock_memory(bool wanted)
{
    struct rlimit limit = {0};
    if (!wanted || getrlimit(RLIMIT_MEMLOCK, &limit) != 0)
        return 0;
    if (mlockall(lock_flags(&limit)) == 0)
        return 0;
    return fail_remedy(SLUICE_REASON_LIMIT,
                       "raise RLIMIT_MEMLOCK (ulimit -l, LimitMEMLOCK=) or grant CAP_IPC_LOCK",
                       "--mlock with RLIMIT_MEMLOCK %llu KiB (%s)",
                       (unsigned long long)limit.rlim_cur / 1024, strerror(errno));
}

/* ---- loop, channel, transport ---- */

static int fail_loop(int error, const char *why, const struct options *o)
{
    bool is_ev = strncmp(why, "ev", strlen("ev")) == 0;
    const char *what = why[0] ? why : strerror(-error);
    switch (-error) {
    case EINVAL:
        return fail_remedy(SLUICE_REASON_USAGE, "--event goes with --backend ev",
                           "--backend %s --event %s", o->backend, o->event);
    case ENOSYS:
    case EPERM:
        return fail_remedy(SLUICE_REASON_NO_BACKEND,
                           is_ev ? "leave --event at auto, or take one that is there" : NULL, "%s",
                           what);
    case ERANGE:
        return fail_remedy(SLUICE_REASON_LIMIT, "choose --event epoll or poll", "%s", what);
    default:
        return fail(fail_reason_of_errno(error), "event loop: %s", what);
    }
}

static int create_loop(struct engine *e, const struct options *o)
{
    char why[200];
    const struct sluice_loop_config cfg = {.backend = o->backend,
                                           .event = o->event,
                                           .idle = options_idle(o),
                                           .spin_us = (uint32_t)o->spin_us};
    int error = sluice_loop_create(&e->loop, &cfg, why, sizeof(why));
    return error ? fail_loop(error, why, o) : 0;
}

static int fail_channel(int error, const char *name)
{
    char directory[256] = "?";
    int owner;
    sluice_channel_directory(directory, sizeof(directory));
    switch (-error) {
    case EADDRINUSE:
        owner = sluice_channel_owner(name);
        return owner == INT_MAX
                   ? fail(SLUICE_REASON_NAME_TAKEN, "name %s (another engine)", name)
                   : fail(SLUICE_REASON_NAME_TAKEN, "name %s (engine with pid %d)", name, owner);
    case EINVAL:
        return fail_remedy(SLUICE_REASON_USAGE,
                           "a name has up to 48 of A-Z a-z 0-9 . _ -, sizes have their ranges in "
                           "sluice run --help",
                           "channel %s", name);
    case ENOENT:
        return fail_remedy(SLUICE_REASON_DENIED,
                           "set XDG_RUNTIME_DIR to a directory of yours, or create /run/sluice",
                           "channel %s: no rendezvous directory", name);
    case EACCES:
    case EPERM:
        return fail_remedy(SLUICE_REASON_DENIED,
                           "it must belong to this user: set XDG_RUNTIME_DIR to one that does",
                           "channel %s: directory %s (%s)", name, directory, strerror(-error));
    case ENOTDIR:
    case ELOOP:
        return fail_remedy(SLUICE_REASON_DENIED,
                           "it must be a directory of this user, not a link or a file: remove it",
                           "channel %s: directory %s (%s)", name, directory, strerror(-error));
    case ENAMETOOLONG:
        return fail_remedy(SLUICE_REASON_USAGE,
                           "a socket's path has 107 bytes at most: set a shorter XDG_RUNTIME_DIR",
                           "channel %s: directory %s", name, directory);
    case ENOMEM:
        return fail_remedy(SLUICE_REASON_LIMIT,
                           "make --inbox and --outbox smaller, or free some memory",
                           "channel %s (%s)", name, strerror(-error));
    default:
        return fail_errno(error, "channel %s", name);
    }
}

static int create_channel(struct engine_feed *feed)
{
    const struct options *o = feed->options;
    const struct sluice_channel_config cfg = {.name = feed->name,
                                              .inbox_bytes = (uint64_t)o->inbox_bytes,
                                              .outbox_bytes = (uint64_t)o->outbox_bytes,
                                              .metadata_entries = (uint32_t)o->metadata_entries,
                                              .pongs_slots = (uint32_t)o->pongs_slots};
    int error = sluice_channel_create(&feed->channel, &cfg);
    return error ? fail_channel(error, feed->name ? feed->name : "(private)") : 0;
}

static enum sluice_model model_of(const char *name)
{
    return strcmp(name, "two-thread") == 0     ? SLUICE_MODEL_TWO_THREAD
           : strcmp(name, "three-thread") == 0 ? SLUICE_MODEL_THREE_THREAD
           : strcmp(name, "single") == 0       ? SLUICE_MODEL_SINGLE
                                               : SLUICE_MODEL_AUTO;
}

/* As the transport wants it: 0 is none. */
static uint32_t core_of(const struct option_cores *cores, uint32_t which)
{
    return which < cores->count ? (uint32_t)cores->core[which] + 1 : 0;
}

static int create_transport(struct engine *e, struct engine_feed *feed,
                            const struct sluice_transport_events *events)
{
    const struct options *o = feed->options;
    const struct sluice_transport_config cfg = {
        .resolve = o->resolve.items,
        .resolve_count = o->resolve.count,
        .connect_timeout_ns = (uint64_t)o->connect_timeout_ns,
        .rcvbuf_bytes = (uint32_t)o->rcvbuf_bytes,
        .sndbuf_bytes = (uint32_t)o->sndbuf_bytes,
        .tls = &feed->tls,
        .tls_provider = o->tls_provider,
        .tls_timeout_ns = (uint64_t)o->tls_timeout_ns,
        .ktls = options_ktls(o),
        .timestamps = strcmp(o->timestamps, "hardware") == 0   ? SLUICE_TIMESTAMPS_HARDWARE
                      : strcmp(o->timestamps, "software") == 0 ? SLUICE_TIMESTAMPS_SOFTWARE
                                                               : SLUICE_TIMESTAMPS_OFF,
        .model = model_of(o->model),
        .receive_core = core_of(&o->cores, 1),
        .send_core = core_of(&o->cores, 2),
        .reconnect = o->command == FOR_RUN && !o->once,
        .retry_first_ns = (uint64_t)o->reconnect_min_ns,
        .retry_max_ns = (uint64_t)o->reconnect_max_ns,
        .retry_lasted_ns = (uint64_t)o->reconnect_reset_ns,
        .keep_outbox = o->keep_outbox,
        .discard_unread = strcmp(o->no_upstream, "discard") == 0,
        .silence_ns = (uint64_t)o->silence_ns,
        .keepalive_ns = (uint64_t)o->keepalive_ns,
        .user_timeout_ns = (uint64_t)o->user_timeout_ns,
    };
    int error =
        sluice_transport_create(&feed->transport, e->loop, feed->channel, &cfg, events, feed->user);
    return error ? fail_errno(error, "transport") : 0;
}

static int connect_transport(struct engine_feed *feed)
{
    const char *url = feed->url;
    int error = sluice_transport_connect(feed->transport, url);
    if (error == 0)
        return 0;
    if (error == -EINVAL)
        return fail_remedy(SLUICE_REASON_USAGE, "write tcp://host:port or tls://host:port",
                           "'%s' is not a URL", url);
    if (error == -EPROTONOSUPPORT)
        return fail_remedy(SLUICE_REASON_UNSUPPORTED, "this version has tcp:// and tls://", "%.*s",
                           (int)strcspn(url, " \t"), url);
    if (error == -EBADF || error == -ENOTSUP)
        return fail(error == -EBADF ? SLUICE_REASON_TLS_CONFIG : SLUICE_REASON_UNSUPPORTED,
                    "%s: %s", url, sluice_transport_why(feed->transport));
    return fail_errno(error, "connecting to %s", url);
}

/* Memory is first touched on the core that will use it. Connecting may start a thread that looks up
 * the name, and it inherits the cores: under a busy engine it would never run. */
static int add_feed(struct engine *e, const struct options *o, struct engine_feed *feed,
                    const struct sluice_transport_events *events, const cpu_set_t *before)
{
    int failed = check_resolve(&feed->options->resolve);
    if (!failed)
        failed = create_channel(feed);
    if (!failed)
        failed = option_tls(&feed->tls, feed->options, feed->url);
    if (!failed)
        failed = create_transport(e, feed, events);
    if (failed)
        return failed;
    sched_setaffinity(0, sizeof(*before), before);
    failed = connect_transport(feed);
    return failed ? failed : pin(&o->cores);
}

int engine_open(struct engine *e, const struct options *o, struct engine_feed *feeds,
                uint32_t count, const struct sluice_transport_events *events)
{
    cpu_set_t before;
    *e = (struct engine){.feeds = feeds, .count = count};
    sched_getaffinity(0, sizeof(before), &before);
    int failed = pin(&o->cores);
    if (!failed)
        failed = create_loop(e, o);
    for (uint32_t i = 0; !failed && i < count; i++)
        failed = add_feed(e, o, &feeds[i], events, &before);
    if (!failed)
        failed = lock_memory(o->mlock);
    if (!failed)
        failed = set_fifo(o->fifo);
    if (failed)
        engine_close(e);
    return failed;
}

void engine_close(struct engine *e)
{
    for (uint32_t i = 0; i < e->count; i++)
        sluice_transport_destroy(e->feeds[i].transport);
    for (uint32_t i = 0; i < e->count; i++)
        sluice_channel_destroy(e->feeds[i].channel);
    sluice_loop_destroy(e->loop);
    memset(e, 0, sizeof(*e));
}
