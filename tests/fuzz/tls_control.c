/*
 * Records without data, as the kernel hands them over. The first byte of an input says which
 * version is spoken; then come records: a byte for the type, one for the length, and so many bytes.
 */
#include "tests/fuzz/fuzz.h"
#include "tls/provider.h"

#include <errno.h>

/* Types that may come, and some that may not. */
static const uint8_t types[] = {SLUICE_TLS_TYPE_ALERT,
                                SLUICE_TLS_TYPE_HANDSHAKE,
                                SLUICE_TLS_TYPE_HANDSHAKE,
                                SLUICE_TLS_TYPE_DATA,
                                20,
                                0};

static int take_record(struct sluice_tls_session *s, struct fuzz_input *in)
{
    uint8_t record[256];
    unsigned type = types[fuzz_take(in, 1) % sizeof(types)];
    size_t bytes = fuzz_take(in, 1);
    for (size_t i = 0; i < bytes; i++)
        record[i] = (uint8_t)fuzz_take(in, 1);
    bool had_failed = s->state == SLUICE_TLS_FAILED;
    int rc = sluice_tls_control(s, type, record, bytes);
    MUST(rc == 0 || rc == -EPROTO ||
         (type == SLUICE_TLS_TYPE_HANDSHAKE &&
          (rc == SLUICE_TLS_NEW_KEYS || rc == SLUICE_TLS_ANSWER_DUE ||
           rc == SLUICE_TLS_REFUSAL_DUE)));
    MUST((rc == -EPROTO) == (s->state == SLUICE_TLS_FAILED));
    MUST(!had_failed || rc == -EPROTO);
    MUST((s->state == SLUICE_TLS_FAILED) == (s->error.reason != SLUICE_REASON_NONE));
    MUST(s->partial.have <= 4 && s->partial.left < 1u << 24);
    if (rc == SLUICE_TLS_NEW_KEYS || rc == SLUICE_TLS_ANSWER_DUE) { /* of a KeyUpdate, whole */
        MUST(s->version == SLUICE_TLS_1_3 && s->partial.have == 0);
        MUST(record[bytes - 1] == (rc == SLUICE_TLS_ANSWER_DUE)); /* and nothing behind it */
    }
    MUST(rc != SLUICE_TLS_REFUSAL_DUE || s->version == SLUICE_TLS_1_2);
    return rc;
}

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t bytes)
{
    struct fuzz_input in = {data, bytes};
    static uint8_t output[SLUICE_TLS_OUTPUT_MIN];
    struct sluice_tls_session s = {0};
    sluice_tls_session_init(&s, &sluice_tls_none, output, sizeof(output));
    s.state = SLUICE_TLS_OPEN;
    s.version = fuzz_take(&in, 1) & 1 ? SLUICE_TLS_1_3 : SLUICE_TLS_1_2;
    while (in.left > 0)
        take_record(&s, &in);
    return 0;
}
