/*
 * sluice probe: what this machine offers, and which model auto would pick. The asking is the
 * library's; only the printing is here.
 */
#include "tools.h"

#include "fail.h"
#include "json.h"

static void print_text(const struct sluice_probe *p)
{
    for (uint32_t i = 0; i < p->count; i++)
        printf("%-28s %-3s  %s\n", p->features[i].name, p->features[i].have ? "yes" : "no",
               p->features[i].detail);
    printf("%-28s %s  (%s)\n", "model for tcp://", p->model, p->model_reason);
    printf("%-28s %s  (%s)\n", "model for tls://", p->model_tls, p->model_tls_reason);
}

static void print_model(struct json *j, const char *key, const char *model, const char *reason)
{
    json_open(j, key, '{');
    if (model[0])
        json_text(j, "model", model);
    else
        json_null(j, "model");
    json_text(j, "reason", reason);
    json_close(j, '}');
}

static void print_json(const struct sluice_probe *p)
{
    struct json j = {.out = stdout};
    json_open(&j, NULL, '{');
    json_text(&j, "sluice_version", SLUICE_VERSION);
    json_open(&j, "features", '[');
    for (uint32_t i = 0; i < p->count; i++) {
        json_open(&j, NULL, '{');
        json_text(&j, "name", p->features[i].name);
        json_bool(&j, "have", p->features[i].have);
        json_text(&j, "detail", p->features[i].detail);
        json_close(&j, '}');
    }
    json_close(&j, ']');
    print_model(&j, "auto_tcp", p->model, p->model_reason);
    print_model(&j, "auto_tls", p->model_tls, p->model_tls_reason);
    json_close(&j, '}');
}

int cmd_probe(struct options *o)
{
    static struct sluice_probe probe;
    sluice_probe(&probe);
    if (o->json)
        print_json(&probe);
    else
        print_text(&probe);
    return 0;
}
