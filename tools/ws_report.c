/*
 * What a run of sluice ws amounts to.
 */
#include "ws_report.h"

#include "fail.h"
#include "json.h"

#include <errno.h>

int report_write(const struct report *r, const struct sluice_client *client, const char *path)
{
    struct sluice_state st;
    struct json j = {.out = fopen(path, "w")};
    if (!j.out)
        return fail_errno(-errno, "--report %s", path);
    sluice_client_state(client, &st);
    json_open(&j, NULL, '{');
    json_number(&j, "messages", r->messages);
    json_number(&j, "payload_bytes", r->bytes);
    json_number(&j, "pings_answered", r->pings_answered);
    json_number(&j, "messages_sent", r->messages_sent);
    json_text(&j, "peer", st.peer);
    json_text(&j, "backend", st.backend);
    json_text(&j, "backend_reason", st.backend_reason);
    json_text(&j, "model", st.model);
    json_text(&j, "model_reason", st.model_reason);
    json_text(&j, "tls", st.tls);
    json_text(&j, "tls_reason", st.tls_reason);
    stages_write(&r->stages, &j);
    json_close(&j, '}');
    return fclose(j.out) ? fail_errno(-errno, "--report %s", path) : 0;
}
