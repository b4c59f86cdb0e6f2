/*
 * Conformance cases: READ. (n) names the line of backends/backend.h.
 */
#include "tests/conformance/cases.h"

#include <fcntl.h>
#include <stdio.h>
#include <unistd.h>

#define FILE_BYTES 10000u

static int open_file(void)
{
    static uint8_t bytes[FILE_BYTES];
    FILE *file = tmpfile();
    EXPECT(file != NULL);
    int fd = dup(fileno(file));
    fclose(file);
    case_fill(bytes, 0, sizeof(bytes));
    EXPECT(fd >= 0 && write(fd, bytes, sizeof(bytes)) == sizeof(bytes));
    return fd;
}

static int32_t read_at(struct fixture *f, int fd, void *to, size_t bytes, uint64_t offset)
{
    struct case_op read = {0};
    case_op_init(&read, SLUICE_OP_READ, fd);
    read.op.read.addr = to;
    read.op.read.bytes = bytes;
    read.op.read.offset = offset;
    int32_t result = case_run(f, &read);
    EXPECT(read.completions == 1);
    return result;
}

/* Short counts are legal; the descriptor's own position is nobody's business. (6, 14) */
void read_where_it_is_asked(struct fixture *f)
{
    uint8_t piece[3000];
    int fd = open_file();
    for (uint64_t at = 0; at < FILE_BYTES;) {
        int32_t n = read_at(f, fd, piece, sizeof(piece), at);
        EXPECT(n > 0 && n <= (int32_t)sizeof(piece) && case_same(piece, at, (size_t)n));
        at += (uint64_t)n;
    }
    EXPECT(read_at(f, fd, piece, 1, 5) == 1 && case_same(piece, 5, 1));
    EXPECT(lseek(fd, 0, SEEK_CUR) == FILE_BYTES);
    close(fd);
}

void read_behind_the_end(struct fixture *f)
{
    uint8_t piece[100];
    int fd = open_file();
    EXPECT(read_at(f, fd, piece, sizeof(piece), FILE_BYTES - 1) == 1);
    EXPECT(read_at(f, fd, piece, sizeof(piece), FILE_BYTES) == 0);
    EXPECT(read_at(f, fd, piece, sizeof(piece), 1ull << 40) == 0);
    close(fd);
}

void read_what_is_no_file(struct fixture *f) /* (4) */
{
    uint8_t piece[100];
    int fd = open("/", O_RDONLY | O_DIRECTORY | O_CLOEXEC);
    EXPECT(fd >= 0);
    EXPECT(read_at(f, fd, piece, sizeof(piece), 0) == -EISDIR);
    close(fd);
    EXPECT(read_at(f, fd, piece, sizeof(piece), 0) == -EBADF);
}

void read_cancelled(struct fixture *f) /* (5) */
{
    struct case_op read = {0};
    uint8_t piece[100];
    int fd = open_file();
    case_op_init(&read, SLUICE_OP_READ, fd);
    read.op.read.addr = piece;
    read.op.read.bytes = sizeof(piece);
    case_submit(f, &read);
    case_cancel(f, &read);
    int32_t result = case_finish(f, &read);
    EXPECT(result == -ECANCELED || (result > 0 && case_same(piece, 0, (size_t)result)));
    EXPECT(read.completions == 1);
    close(fd);
}
