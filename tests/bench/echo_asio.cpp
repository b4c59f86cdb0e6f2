/*
 * An echo server on standalone Asio, on epoll as by default: a session with a buffer of its own for
 * each connection; one thread, and Asio is told so (no locks).
 */
#include "echo_server.h"

#include <asio.hpp>
#include <cstdio>
#include <memory>
#include <vector>

using asio::ip::tcp;

class session : public std::enable_shared_from_this<session>
{
  public:
    session(tcp::socket socket, std::size_t bytes) : socket_(std::move(socket)), buffer_(bytes)
    {
    }

    void read()
    {
        socket_.async_read_some(asio::buffer(buffer_),
                                [self = shared_from_this()](std::error_code error, std::size_t n) {
                                    if (!error)
                                        self->write(n);
                                });
    }

  private:
    void write(std::size_t bytes)
    {
        asio::async_write(socket_, asio::buffer(buffer_, bytes),
                          [self = shared_from_this()](std::error_code error, std::size_t) {
                              if (!error)
                                  self->read();
                          });
    }

    tcp::socket socket_;
    std::vector<char> buffer_;
};

static void accept(tcp::acceptor &acceptor, std::size_t bytes)
{
    acceptor.async_accept([&acceptor, bytes](std::error_code error, tcp::socket socket) {
        if (!error) {
            socket.set_option(tcp::no_delay(true), error);
            std::make_shared<session>(std::move(socket), bytes)->read();
        }
        accept(acceptor, bytes);
    });
}

int main(int argc, char **argv)
try {
    const echo_args args = echo_begin(argc, argv);
    asio::io_context context(ASIO_CONCURRENCY_HINT_UNSAFE);
    tcp::acceptor acceptor(context, tcp::v4(), echo_listen());
    accept(acceptor, args.buffer_bytes);
    context.run();
} catch (const std::exception &error) {
    std::fprintf(stderr, "asio: %s\n", error.what());
    return 1;
}
