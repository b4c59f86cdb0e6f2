/*
 * Names: the directory, the socket file of a channel, who owns it. What is said on the socket is
 * link.c's and attach.c's.
 */
#include "rings/engine.h"
#include "base/system.h"

#include <errno.h>
#include <fcntl.h>
#include <limits.h>
#include <stddef.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/socket.h>
#include <sys/stat.h>
#include <sys/un.h>
#include <unistd.h>

bool sluice_channel_name_ok(const char *name)
{
    size_t n = strspn(name, "abcdefghijklmnopqrstuvwxyzABCDEFGHIJKLMNOPQRSTUVWXYZ0123456789._-");
    return n > 0 && n <= SLUICE_NAME_MAX && name[n] == 0 && name[0] != '.';
}

static bool is_directory(const char *path)
{
    struct stat st;
    return stat(path, &st) == 0 && S_ISDIR(st.st_mode);
}

int sluice_channel_directory(char *out, size_t out_bytes)
{
    const char *xdg = getenv("XDG_RUNTIME_DIR");
    char run_user[64];
    snprintf(run_user, sizeof(run_user), "/run/user/%u", (unsigned)geteuid());
    const char *base = xdg && xdg[0] == '/'     ? xdg
                       : geteuid() == 0         ? "/run"
                       : is_directory(run_user) ? run_user
                                                : NULL;
    if (!base)
        return -ENOENT;
    int n = snprintf(out, out_bytes, "%s/sluice", base);
    return n < 0 || (size_t)n >= out_bytes ? -ENAMETOOLONG : 0;
}

static int socket_address(struct sockaddr_un *addr, const char *name)
{
    char dir[sizeof(addr->sun_path)];
    memset(addr, 0, sizeof(*addr));
    addr->sun_family = AF_UNIX;
    int err = sluice_channel_directory(dir, sizeof(dir));
    if (err)
        return err;
    int n = snprintf(addr->sun_path, sizeof(addr->sun_path), "%s/%s.sock", dir, name);
    return n < 0 || (size_t)n >= sizeof(addr->sun_path) ? -ENAMETOOLONG : 0;
}

/* Open, made if need be; ours alone, and locked against another engine that takes a name over. */
static int open_directory(void)
{
    char dir[256];
    struct stat st;
    int err = sluice_channel_directory(dir, sizeof(dir));
    if (err)
        return err;
    if (mkdir(dir, 0700) && errno != EEXIST)
        return -errno;
    int fd = open(dir, O_RDONLY | O_DIRECTORY | O_NOFOLLOW | O_CLOEXEC);
    if (fd < 0)
        return -errno;
    if (fstat(fd, &st) || st.st_uid != geteuid() || (st.st_mode & 0077)) {
        close(fd);
        return -EACCES;
    }
    return fd;
}

/* A connected, non-blocking socket, or negative errno: -ENOENT and -ECONNREFUSED when nobody lives
 * behind the name. */
int sluice_rendezvous_connect(const char *name)
{
    struct sockaddr_un addr;
    if (!sluice_channel_name_ok(name))
        return -EINVAL;
    int err = socket_address(&addr, name);
    if (err)
        return err;
    int fd = sluice_system_socket(AF_UNIX, SOCK_SEQPACKET, true);
    if (fd < 0)
        return fd;
    if (connect(fd, (struct sockaddr *)&addr, sizeof(addr))) {
        err = -errno;
        close(fd);
        return err;
    }
    return fd;
}

void sluice_rendezvous_forget(const char *name)
{
    struct sockaddr_un addr;
    int directory_fd = open_directory();
    int lock = directory_fd < 0 ? directory_fd : sluice_system_lock(directory_fd, false);
    /* asked again: one that took the name over meanwhile did so under this lock */
    if (lock >= 0 && socket_address(&addr, name) == 0 && sluice_channel_owner(name) == 0)
        unlink(addr.sun_path);
    if (lock >= 0)
        sluice_system_unlock(lock);
    if (directory_fd >= 0)
        close(directory_fd);
}

int sluice_channel_owner(const char *name)
{
    int fd = sluice_rendezvous_connect(name);
    if (fd == -ENOENT || fd == -ECONNREFUSED)
        return 0;
    if (fd < 0)
        return fd;
    unsigned uid;
    int pid = 0, err = sluice_system_peer(fd, &uid, &pid);
    close(fd);
    return err ? err : pid > 0 ? pid : INT_MAX;
}

static int bind_name(int fd, const struct sockaddr_un *addr, const char *name)
{
    if (bind(fd, (const struct sockaddr *)addr, sizeof(*addr)) == 0)
        return 0;
    if (errno != EADDRINUSE)
        return -errno;
    int owner = sluice_channel_owner(name);
    if (owner != 0)
        return owner < 0 && owner != -EAGAIN ? owner : -EADDRINUSE;
    if (unlink(addr->sun_path))
        return -errno;
    return bind(fd, (const struct sockaddr *)addr, sizeof(*addr)) ? -errno : 0;
}

int sluice_rendezvous_listen(struct sluice_channel *ch, const char *name)
{
    struct sockaddr_un addr;
    int err = socket_address(&addr, name);
    if (err)
        return err;
    ch->directory_fd = open_directory();
    if (ch->directory_fd < 0)
        return ch->directory_fd;
    int fd = sluice_system_socket(AF_UNIX, SOCK_SEQPACKET, true);
    if (fd < 0)
        return fd;
    sluice_system_refuse_rights(fd);
    int lock = sluice_system_lock(ch->directory_fd, true);
    err = lock < 0 ? lock : bind_name(fd, &addr, name);
    if (!err) {
        snprintf(ch->socket_name, sizeof(ch->socket_name), "%s.sock", name);
        if (chmod(addr.sun_path, 0600) || listen(fd, SOMAXCONN))
            err = -errno;
    }
    if (lock >= 0)
        sluice_system_unlock(lock);
    if (err) {
        close(fd);
        return err;
    }
    ch->listen_fd = fd;
    ch->links_changed = true;
    return 0;
}

void sluice_rendezvous_unlisten(struct sluice_channel *ch)
{
    if (ch->socket_name[0])
        unlinkat(ch->directory_fd, ch->socket_name, 0);
    if (ch->listen_fd >= 0)
        close(ch->listen_fd);
    if (ch->directory_fd >= 0)
        close(ch->directory_fd);
    ch->listen_fd = ch->directory_fd = -1;
    ch->socket_name[0] = 0;
}
