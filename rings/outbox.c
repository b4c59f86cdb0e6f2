/*
 * MSG_OUTBOX and PONGS, the engine's end. All that the other side wrote is loaded once, checked,
 * and then only the copy is used. Filling them is client.c's.
 */
#include "rings/engine.h"
#include "base/check.h"
#include "base/clock.h"

#include <errno.h>

int64_t sluice_outbox_moved(struct sluice_outbox *box, uint64_t slot_tail)
{
    uint64_t byte_tail = atomic_load_explicit(&box->tails->byte_tail, memory_order_relaxed);
    if (slot_tail - box->slot_tail > box->slot_count - (box->slot_tail - box->slot_head) ||
        byte_tail - box->byte_tail > box->byte_count - (box->byte_tail - box->byte_head))
        return -EBADMSG;
    box->slot_tail = slot_tail;
    box->byte_tail = byte_tail;
    return (int64_t)(slot_tail - box->slot_head);
}

int sluice_outbox_slot(const struct sluice_outbox *box, uint64_t k, uint64_t offset,
                       struct sluice_message *out)
{
    SLUICE_CHECK(k < sluice_outbox_unread(box));
    /* The slot may change while we look: one load of each half, then only the copies. */
    const struct ring_slot *slot = &box->slots[(box->slot_head + k) & (box->slot_count - 1)];
    const shared_u64 *words = (const shared_u64 *)(const void *)slot;
    out->commit_cycle = atomic_load_explicit(&words[0], memory_order_relaxed);
    uint64_t word = atomic_load_explicit(&words[1], memory_order_relaxed);
    out->bytes = (uint32_t)word;
    out->connection = (uint16_t)(word >> 32);
    out->type = (uint8_t)(word >> 48);
    if (out->bytes > box->byte_count / 2 || offset + out->bytes > box->byte_tail - box->byte_head ||
        out->type > SLUICE_MESSAGE_WS_CLOSE)
        return -EBADMSG;
    return 0;
}

void sluice_outbox_consume(struct sluice_outbox *box, uint64_t bytes, uint64_t slots)
{
    SLUICE_CHECK(bytes <= box->byte_tail - box->byte_head);
    SLUICE_CHECK(slots <= box->slot_tail - box->slot_head);
    box->byte_head += bytes;
    box->slot_head += slots;
    /* release: pairs with the acquire in client.c; we have finished reading below the heads */
    atomic_store_explicit(&box->heads->byte_head, box->byte_head, memory_order_release);
    atomic_store_explicit(&box->heads->slot_head, box->slot_head, memory_order_release);
}

/* Its reader may see the end change meanwhile: client.c. */
void sluice_outbox_take_up(struct sluice_outbox *box, uint64_t slots)
{
    struct ring_heads *heads = box->heads;
    atomic_store_explicit(&heads->run_end, 0, memory_order_relaxed);
    atomic_thread_fence(memory_order_release);
    atomic_store_explicit(&heads->run_cycle, sluice_cycles(), memory_order_relaxed);
    atomic_store_explicit(&heads->run_end, box->slot_head + slots, memory_order_release);
}
