/*
 * Clients of an engine that lies. The first byte of an input says who attaches; then come steps of
 * 12 bytes: before the first step 0, what stands in the two memories when they are mapped, then
 * what is written there while it does its work. It refuses, or what it hands out lies in what was
 * mapped.
 */
#include "tests/fuzz/fuzz.h"
#include "rings/client.h"
#include "rings/engine.h"
#include "rings/memory.h"
#include "base/system.h"

#include <errno.h>
#include <sys/socket.h>
#include <unistd.h>

#define STEPS_MAX 200u

static const struct sluice_channel_config cfg = {.inbox_bytes = 65536,
                                                 .outbox_bytes = 65536,
                                                 .metadata_entries = 64,
                                                 .outbox_slots = 64,
                                                 .pongs_slots = 16};

/* A memory as an honest engine leaves it, and one of this input's. */
struct memory {
    uint64_t bytes;
    void *honest;
    uint8_t *base;
    int fd;
};

static struct memory engine, writer;
static volatile uint8_t sink; /* so that bytes are really read */

static void keep_honest(struct memory *m, int fd)
{
    m->bytes = (uint64_t)sluice_memory_size(fd);
    m->honest = malloc(m->bytes);
    MUST(m->honest && pread(fd, m->honest, m->bytes, 0) == (ssize_t)m->bytes);
}

static void set_up_once(void)
{
    struct sluice_channel *ch;
    struct sluice_client *c;
    if (engine.honest)
        return;
    MUST(sluice_channel_create(&ch, &cfg) == 0);
    MUST(sluice_attach_local(&c, ch, SLUICE_UPSTREAM) == 0);
    keep_honest(&engine, ch->memory_fd);
    keep_honest(&writer, ch->writers[ch->upstream].memory_fd);
    sluice_detach(c);
    sluice_channel_destroy(ch);
}

/* The rest is zeros. */
static void open_memory(struct memory *m, uint64_t honest_bytes)
{
    m->fd = sluice_memory_create("fuzz", m->bytes);
    MUST(m->fd >= 0);
    m->base = sluice_memory_map(m->fd, 0, m->bytes, MAP_TO_WRITE);
    MUST(m->base && sluice_memory_seal_size(m->fd) == 0);
    memcpy(m->base, m->honest, honest_bytes);
}

static void set_word(struct memory *m, uint64_t at, uint64_t value)
{
    shared_u64 *word = (shared_u64 *)(void *)(m->base + at % (m->bytes / 8) * 8);
    atomic_store(word, value);
    struct engine_shared *s = (struct engine_shared *)(void *)(engine.base + ENGINE_SHARED_AT);
    atomic_fetch_and(&s->text_version, ~1ull); /* odd, it is waited for: test_state.c */
}

/* ---- what a client does ---- */

static void read_entries(struct sluice_client *c, uint32_t max, uint32_t release)
{
    const struct sluice_meta *m;
    int64_t n = sluice_inbox_peek(c, &m, max);
    MUST(n <= max && (n >= 0 || n == -EBADMSG || n == -ESTALE || n == -EPERM));
    MUST((n == -EPERM) == (c->role == SLUICE_PRODUCER));
    for (int64_t i = 0; i < n; i++) {
        uint32_t bytes = m[i].decrypted_len;
        MUST(bytes <= c->inbox_bytes && m[i].event <= SLUICE_EVENT_DISCONNECTED);
        MUST(i == 0 || m[i].msg_inbox_offset == m[i - 1].msg_inbox_offset + m[i - 1].decrypted_len);
        const uint8_t *at = sluice_inbox_at(c, m[i].msg_inbox_offset);
        MUST(at >= c->inbox && at < c->inbox + c->inbox_bytes);
        sink = at[bytes ? bytes - 1 : 0];
    }
    if (n > 0) {
        int err = sluice_inbox_release(c, release % ((uint32_t)n + 1));
        MUST(err == 0 || (err == -ESTALE && c->role == SLUICE_OBSERVER));
    }
}

static void put(struct sluice_client *c, bool pong, size_t bytes)
{
    void *room;
    const struct producer *p = pong ? &c->pongs : &c->outbox;
    int err = pong ? sluice_pong_claim(c, bytes, &room) : sluice_outbox_claim(c, bytes, &room);
    MUST(err == 0 || err == -EAGAIN || err == -EBADMSG || err == -EMSGSIZE || err == -EPERM);
    if (err)
        return;
    MUST((uint8_t *)room >= p->base && (uint8_t *)room + bytes <= p->base + 2 * p->byte_count);
    memset(room, 'x', bytes);
    if (pong)
        sluice_pong_commit(c, 0);
    else
        sluice_outbox_commit(c, 0, SLUICE_MESSAGE_DATA);
}

static void look(struct sluice_client *c, unsigned what)
{
    static struct sluice_state st;
    uint64_t messages, bytes;
    int there = sluice_client_wait(c, what, 0);
    MUST(there >= 0 && (there & ~(int)what) == 0);
    sluice_outbox_depth(c, &messages, &bytes);
    sluice_client_state(c, &st);
    MUST(memchr(st.name, 0, sizeof(st.name)) && memchr(st.peer, 0, sizeof(st.peer)));
    MUST(memchr(st.tls_reason, 0, sizeof(st.tls_reason)));
}

static void step(struct sluice_client *c, unsigned what, uint32_t number, uint64_t value)
{
    switch (what % 6) {
    case 0:
    case 1:
        set_word(&engine, number, value);
        break;
    case 2: /* where it looks next */
        set_word(&engine,
                 (ENGINE_FIXED_BYTES + (c->meta_head + number % 8) % 64 * 64) / 8 + 6 + (value & 1),
                 value >> 1);
        break;
    case 3:
        read_entries(c, 1 + number % 80, (uint32_t)value);
        break;
    case 4:
        put(c, value & 1, number % 33000);
        break;
    default:
        look(c, number % 8);
    }
}

/* ---- one input ---- */

static void before(struct fuzz_input *in)
{
    while (in->left >= 12) {
        unsigned what = (unsigned)fuzz_take(in, 1);
        uint32_t number = (uint32_t)fuzz_take(in, 3);
        uint64_t value = fuzz_take(in, 8);
        if (what == 0)
            break;
        set_word(what & 1 ? &engine : &writer, what & 2 ? number % 24 : number, value);
    }
}

static void live(enum sluice_role role, struct fuzz_input *in)
{
    int ends[2];
    struct sluice_client *c;
    MUST(sluice_doorbell_open(ends) == 0);
    const int fds[LINK_FDS] = {[LINK_FD_ENGINE] = dup(engine.fd),
                               [LINK_FD_WRITER] = role == SLUICE_OBSERVER ? -1 : dup(writer.fd),
                               [LINK_FD_BELL] = ends[1]};
    int err = sluice_client_open(&c, role, fds);
    MUST(err == 0 || err == -EPROTO || err == -ENOMEM);
    MUST((err == 0) == (c != NULL));
    for (unsigned i = 0; c && i < STEPS_MAX && in->left >= 12; i++) {
        unsigned what = (unsigned)fuzz_take(in, 1);
        uint32_t number = (uint32_t)fuzz_take(in, 3);
        step(c, what, number, fuzz_take(in, 8));
    }
    sluice_detach(c);
    close(ends[0]);
}

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t bytes)
{
    static const enum sluice_role roles[] = {SLUICE_UPSTREAM, SLUICE_PRODUCER, SLUICE_OBSERVER};
    struct fuzz_input in = {data, bytes};
    enum sluice_role role = roles[fuzz_take(&in, 1) % 3];
    set_up_once();
    open_memory(&engine, ENGINE_FIXED_BYTES);
    open_memory(&writer, WRITER_FIXED_BYTES);
    ((struct writer_header *)(void *)writer.base)->role = (uint32_t)role;
    before(&in);
    live(role, &in);
    sluice_memory_unmap(engine.base, engine.bytes);
    sluice_memory_unmap(writer.base, writer.bytes);
    close(engine.fd);
    close(writer.fd);
    return 0;
}
