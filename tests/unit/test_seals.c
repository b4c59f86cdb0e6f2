/*
 * What a client cannot do with the memory it was given, whatever it does with the descriptor: write
 * the engine's, resize either, let others write a writer's.
 */
#include "rings/client.h"
#include "rings/memory.h"
#include "tests/support/serve.h"

#include <criterion/criterion.h>
#include <errno.h>
#include <fcntl.h>
#include <linux/falloc.h>
#include <string.h>
#include <sys/mman.h>

static struct sluice_channel *ch;
static struct sluice_client *up, *observer;
static int engine_fd, writer_fd; /* as a client that keeps them has them */
static const uint64_t page = LAYOUT_PAGE;

static void set_up(void)
{
    const struct sluice_channel_config cfg = {.inbox_bytes = 65536, .metadata_entries = 64};
    cr_assert_eq(sluice_channel_create(&ch, &cfg), 0);
    cr_assert_eq(sluice_attach_local(&up, ch, SLUICE_UPSTREAM), 0);
    cr_assert_eq(sluice_attach_local(&observer, ch, SLUICE_OBSERVER), 0);
    engine_fd = dup(ch->memory_fd);
    writer_fd = dup(ch->writers[ch->upstream].memory_fd);
    cr_assert(engine_fd >= 0 && writer_fd >= 0);
}

static void tear_down(void)
{
    close(engine_fd);
    close(writer_fd);
    sluice_detach(up);
    sluice_detach(observer);
    sluice_channel_destroy(ch);
}

TestSuite(seals, .init = set_up, .fini = tear_down);

static void expect_unmappable(int fd)
{
    void *m = mmap(NULL, page, PROT_READ | PROT_WRITE, MAP_SHARED, fd, 0);
    cr_expect_eq(m, MAP_FAILED);
    cr_expect_eq(errno, EPERM);
    m = mmap(NULL, page, PROT_WRITE, MAP_SHARED, fd, 0);
    cr_expect_eq(m, MAP_FAILED);
    /* Read-only, then a change of mind. */
    m = mmap(NULL, page, PROT_READ, MAP_SHARED, fd, 0);
    cr_assert_neq(m, MAP_FAILED);
    cr_expect_eq(mprotect(m, page, PROT_READ | PROT_WRITE), -1);
    cr_expect_eq(errno, EACCES);
    cr_expect_neq(madvise(m, page, MADV_REMOVE), 0);
    munmap(m, page);
}

/* A read-only descriptor is reopened through /proc: only the seal stands in the way. */
static void expect_unmappable_when_reopened(int fd)
{
    char path[64];
    snprintf(path, sizeof(path), "/proc/self/fd/%d", fd);
    int again = open(path, O_RDWR);
    cr_assert_geq(again, 0);
    expect_unmappable(again);
    cr_expect_eq(write(again, "x", 1), -1);
    cr_expect_eq(errno, EPERM);
    close(again);
}

static void expect_unwritable(int fd)
{
    cr_expect_eq(pwrite(fd, "x", 1, 0), -1);
    cr_expect_eq(errno, EPERM);
    cr_expect_eq(fallocate(fd, FALLOC_FL_PUNCH_HOLE | FALLOC_FL_KEEP_SIZE, 0, (off_t)page), -1);
    cr_expect_eq(errno, EPERM);
}

static void expect_unresizable(int fd)
{
    int64_t size = sluice_memory_size(fd);
    cr_expect_eq(ftruncate(fd, 0), -1);
    cr_expect_eq(errno, EPERM);
    cr_expect_eq(ftruncate(fd, size - (off_t)page), -1);
    cr_expect_eq(ftruncate(fd, size + (off_t)page), -1);
    cr_expect_eq(fallocate(fd, 0, size, (off_t)page), -1);
    cr_expect_eq(sluice_memory_size(fd), size);
}

Test(seals, the_engines_memory_cannot_be_mapped_writable)
{
    expect_unmappable(engine_fd);
    expect_unmappable_when_reopened(engine_fd);
}

Test(seals, row_27_the_engines_memory_cannot_be_written_punched_or_resized)
{
    expect_unwritable(engine_fd);
    expect_unresizable(engine_fd);
}

Test(seals, the_mappings_a_client_got_stay_read_only)
{
    const void *const maps[] = {up->header, up->meta, up->inbox, observer->inbox};
    for (size_t i = 0; i < sizeof(maps) / sizeof(maps[0]); i++) {
        cr_expect_eq(mprotect((void *)(uintptr_t)maps[i], page, PROT_READ | PROT_WRITE), -1);
        cr_expect_eq(errno, EACCES);
    }
}

Test(seals, seals_cannot_be_changed)
{
    cr_expect_eq(fcntl(engine_fd, F_ADD_SEALS, F_SEAL_WRITE), -1);
    cr_expect_eq(fcntl(writer_fd, F_ADD_SEALS, F_SEAL_WRITE), -1);
    const int want = F_SEAL_SEAL | F_SEAL_SHRINK | F_SEAL_GROW | F_SEAL_FUTURE_WRITE;
    cr_expect_eq(fcntl(engine_fd, F_GET_SEALS), want);
    cr_expect_eq(fcntl(writer_fd, F_GET_SEALS), want);
}

Test(seals, the_engine_itself_still_writes)
{
    const struct sluice_meta *m;
    serve_bytes(ch, 1000);
    cr_assert_eq(sluice_inbox_peek(up, &m, 1), 1);
    cr_expect_eq(*sluice_inbox_at(up, 999), served_byte(999));
}

Test(seals, nobody_else_can_write_a_writers_memory)
{
    expect_unmappable(writer_fd);
    expect_unmappable_when_reopened(writer_fd);
    expect_unwritable(writer_fd);
}

Test(seals, row_27_a_writer_cannot_resize_its_memory)
{
    expect_unresizable(writer_fd);
}

Test(seals, the_writer_itself_still_writes)
{
    void *room;
    cr_assert_eq(sluice_outbox_claim(up, 4, &room), 0);
    memcpy(room, "mine", 4);
    sluice_outbox_commit(up, 0, SLUICE_MESSAGE_DATA);
    struct sluice_outbox *box = &ch->writers[ch->upstream].outbox;
    cr_assert_eq(sluice_outbox_refresh(box), 1);
    cr_expect_eq(memcmp(box->base, "mine", 4), 0);
}

/* What the engine reads of a writer's memory it cannot write by mistake. */
Test(seals, the_engine_maps_a_writers_memory_read_only)
{
    const struct sluice_writer *w = &ch->writers[ch->upstream];
    const void *const maps[] = {w->fixed, w->outbox.base, w->pongs.base};
    int zeros = open("/dev/zero", O_RDONLY);
    cr_assert_geq(zeros, 0);
    for (size_t i = 0; i < sizeof(maps) / sizeof(maps[0]); i++) {
        cr_expect_eq(read(zeros, (void *)(uintptr_t)maps[i], 8), -1);
        cr_expect_eq(errno, EFAULT);
    }
    close(zeros);
}

Test(seals, memory_that_could_shrink_is_not_accepted)
{
    int fd = sluice_memory_create("test", 2 * page);
    cr_assert_geq(fd, 0);
    cr_expect_eq(sluice_memory_check(fd, page), -EPROTO);
    cr_assert_eq(sluice_memory_seal_size(fd), 0);
    cr_expect_eq(sluice_memory_check(fd, 2 * page), 0);
    cr_expect_eq(sluice_memory_check(fd, 2 * page + 1), -EPROTO);
    close(fd);
    int pipes[2];
    cr_assert_eq(pipe(pipes), 0);
    cr_expect_eq(sluice_memory_check(pipes[0], 0), -EPROTO);
}
