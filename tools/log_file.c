/*
 * --log-file: what goes to stderr goes to a file, which may be moved away while we run.
 */
#include "log_file.h"

#include "fail.h"

#include <errno.h>
#include <fcntl.h>
#include <string.h>
#include <unistd.h>

int log_file_open(const char *path)
{
    if (!path)
        return 0;
    int fd = open(path, O_WRONLY | O_APPEND | O_CREAT | O_CLOEXEC, 0640);
    if (fd < 0)
        return fail_remedy(SLUICE_REASON_USAGE, "give a file that this user may write",
                           "--log-file %s (%s)", path, strerror(errno));
    dup2(fd, STDERR_FILENO);
    close(fd);
    return 0;
}
