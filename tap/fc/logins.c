#include "tap/fc/els.h"
#include "tap/fc/fip.h"
#include "tap/fc/internal.h"

/* ELS requests whose answer is to come: what it means depends on them. */
enum {
    PENDING = 512,
    ACCEPTED = 256,
    WELL_KNOWN = 0xfffff0,
    LOGIN_BYTES = 116 /* FC-LS-4, 4.3.7 */
};
/* The PRLI that follows a PLOGI has long been sent, and sent again. */
#define LOGIN_NS (60 * NS_PER_SECOND)

struct request {
    uint64_t peer; /* MAC address in FIP, where ports have no FC_ID yet; 0 otherwise */
    uint64_t wwpn;
    uint32_t s_id;
    uint32_t d_id;
    uint16_t vsan;
    uint16_t ox_id;
    uint8_t code; /* 0: free */
    bool awaited; /* a PLOGI whose answer tells who has d_id now */
};

/* A PLOGI was accepted. */
struct accepted {
    uint32_t s_id; /* of the PLOGI */
    uint32_t d_id;
    uint64_t time_ns; /* 0: free */
    uint16_t vsan;
};

struct logins {
    struct request pending[PENDING]; /* a ring */
    size_t next;
    size_t awaited;                     /* of `pending` */
    struct accepted accepted[ACCEPTED]; /* a ring */
    size_t next_accepted;
};

struct logins *logins_create(void) {
    return calloc(1, sizeof(struct logins));
}

void logins_destroy(struct logins *l) {
    free(l);
}

static void settle(struct logins *l, struct request *request) {
    l->awaited -= request->awaited;
    request->awaited = false;
}

/* A login passed, and not its answer, which would have said who has the FC_ID now. */
static void doubt(struct fc *f, uint16_t vsan, uint32_t initiator, uint32_t target,
                  uint64_t time_ns) {
    if (names_find(f->names, vsan, target) == 0 && nexus_find(f, vsan, initiator, target) == NULL)
        return;
    nexus_leave(f, vsan, target, "a login of which the answer was not seen ended it", time_ns);
    names_forget(f->names, vsan, target);
}

static void remember(struct fc *f, const struct frame *frame, uint64_t peer, const struct els *els,
                     uint64_t time_ns) {
    struct logins *l = f->logins;
    struct request *request = &l->pending[l->next++ % PENDING];
    if (request->awaited)
        doubt(f, request->vsan, request->s_id, request->d_id, time_ns);
    settle(l, request);
    *request = (struct request){.peer = peer,
                                .wwpn = els->wwpn,
                                .s_id = frame->s_id,
                                .d_id = frame->d_id,
                                .vsan = frame->vsan,
                                .ox_id = frame->ox_id,
                                .code = els->code,
                                .awaited = els->code == ELS_PLOGI && frame->d_id < WELL_KNOWN};
    l->awaited += request->awaited;
}

/* That of the last PLOGI answers those before it that are still open, too. */
static void accept_login(struct logins *l, uint16_t vsan, uint32_t s_id, uint32_t d_id,
                         uint64_t time_ns) {
    for (size_t i = 0; i < PENDING && l->awaited > 0; i++) {
        struct request *r = &l->pending[i];
        if (r->vsan == vsan && r->s_id == s_id && r->d_id == d_id)
            settle(l, r);
    }
    l->accepted[l->next_accepted++ % ACCEPTED] =
        (struct accepted){.s_id = s_id, .d_id = d_id, .time_ns = time_ns, .vsan = vsan};
}

static bool was_accepted(const struct logins *l, const struct frame *frame, uint64_t time_ns) {
    for (size_t i = 0; i < ACCEPTED; i++) {
        const struct accepted *a = &l->accepted[i];
        bool same = a->s_id == frame->s_id && a->d_id == frame->d_id;
        bool other_way = a->s_id == frame->d_id && a->d_id == frame->s_id;
        if (a->time_ns > 0 && time_ns < a->time_ns + LOGIN_NS && a->vsan == frame->vsan &&
            (same || other_way))
            return true;
    }
    return false;
}

void logins_before_command(struct fc *f, uint16_t vsan, uint32_t initiator, uint32_t target,
                           uint64_t time_ns) {
    struct logins *l = f->logins;
    for (size_t i = 0; i < PENDING && l->awaited > 0; i++) {
        struct request *r = &l->pending[i];
        if (!r->awaited || r->vsan != vsan || r->s_id != initiator || r->d_id != target)
            continue;
        settle(l, r); /* but it stays: the answer may be late, and still tells */
        doubt(f, vsan, initiator, target, time_ns);
    }
}

/* A port that logs in to the fabric has no FC_ID before the answer, which is sent to its new one.
 */
static bool is_answer(const struct request *r, const struct frame *frame, uint64_t peer) {
    return r->code != 0 && r->vsan == frame->vsan && r->ox_id == frame->ox_id &&
           r->d_id == frame->s_id && r->peer == peer &&
           (r->s_id == frame->d_id || (r->s_id & 0xff) == 0);
}

/* The newest: one before it with the same OX_ID was never answered. */
static struct request *find(struct logins *l, const struct frame *frame, uint64_t peer) {
    for (size_t i = 1; i <= PENDING; i++) {
        struct request *request = &l->pending[(l->next - i) % PENDING];
        if (is_answer(request, frame, peer))
            return request;
    }
    return NULL;
}

static void name_port(struct fc *f, uint16_t vsan, uint32_t fc_id, uint64_t wwpn,
                      uint64_t time_ns) {
    if (fc_id == 0 || fc_id >= WELL_KNOWN || wwpn == 0)
        return;
    f->counters.logins++;
    nexus_name(f, vsan, fc_id, wwpn, time_ns);
}

static void leave(struct fc *f, uint16_t vsan, uint32_t fc_id, uint64_t time_ns) {
    nexus_leave(f, vsan, fc_id, "its port left the fabric before its status was seen", time_ns);
    names_forget(f->names, vsan, fc_id);
}

/* Both may be initiators. */
static void end_commands(struct fc *f, const struct frame *frame, uint64_t time_ns) {
    static const char text[] = "a login or logout ended it before its status was seen";
    struct fc_nexus *n = nexus_find(f, frame->vsan, frame->s_id, frame->d_id);
    if (n != NULL)
        nexus_clear(n, GAP_NEXUS_LOST, text, time_ns);
    n = nexus_find(f, frame->vsan, frame->d_id, frame->s_id);
    if (n != NULL)
        nexus_clear(n, GAP_NEXUS_LOST, text, time_ns);
}

static void note_recovery(struct fc *f, const struct frame *frame, const struct els *els) {
    uint32_t initiator = els->fc_id == frame->d_id ? frame->d_id : frame->s_id;
    uint32_t target = initiator == frame->s_id ? frame->d_id : frame->s_id;
    struct fc_nexus *n = nexus_find(f, frame->vsan, initiator, target);
    struct slot *s = n != NULL ? slot_find(n, els->ox_id) : NULL;
    if (s != NULL)
        s->recovering = true;
}

/* FCP-4, 6.2: a PRLI needs a PLOGI before it. Neither that nor its answer has passed. */
static void doubt_unseen_login(struct fc *f, const struct frame *frame, uint64_t time_ns) {
    if (was_accepted(f->logins, frame, time_ns))
        return;
    doubt(f, frame->vsan, frame->s_id, frame->d_id, time_ns);
    if (nexus_find(f, frame->vsan, frame->d_id, frame->s_id) != NULL)
        doubt(f, frame->vsan, frame->d_id, frame->s_id, time_ns);
}

static void take_request(struct fc *f, const struct frame *frame, uint64_t peer,
                         const struct els *els, uint64_t time_ns) {
    remember(f, frame, peer, els, time_ns);
    switch (els->code) {
    case ELS_PLOGI:
    case ELS_FLOGI: /* with an FC_ID: a VN2VN port */
    case ELS_FDISC:
        name_port(f, frame->vsan, frame->s_id, els->wwpn, time_ns);
        end_commands(f, frame, time_ns);
        break;
    case ELS_PDISC:
    case ELS_ADISC:
        name_port(f, frame->vsan, frame->s_id, els->wwpn, time_ns);
        break;
    case ELS_LOGO:
        if (frame->d_id == FC_FABRIC_PORT)
            leave(f, frame->vsan, frame->s_id, time_ns);
        else
            end_commands(f, frame, time_ns);
        break;
    case ELS_PRLI:
        end_commands(f, frame, time_ns);
        doubt_unseen_login(f, frame, time_ns);
        break;
    case ELS_PRLO:
    case ELS_TPRLO:
        end_commands(f, frame, time_ns);
        break;
    case ELS_REC:
    case ELS_SRR:
        note_recovery(f, frame, els);
        break;
    default: /* RSCN and the like: nobody takes commands at another port's FC_ID without a PLOGI */
        break;
    }
}

static void take_accept(struct fc *f, const struct frame *frame, const struct request *request,
                        const struct els *els, uint64_t time_ns) {
    switch (request->code) {
    case ELS_PLOGI:
        accept_login(f->logins, frame->vsan, frame->d_id, frame->s_id, time_ns);
        name_port(f, frame->vsan, frame->s_id, els->wwpn, time_ns);
        break;
    case ELS_PDISC:
    case ELS_ADISC:
        name_port(f, frame->vsan, frame->s_id, els->wwpn, time_ns);
        break;
    case ELS_FLOGI:
    case ELS_FDISC:
        name_port(f, frame->vsan, frame->d_id, request->wwpn, time_ns);
        break;
    default:
        break;
    }
}

/* By its shape: the request was lost. */
static bool accepts_login(const struct frame *frame) {
    return frame->r_ctl == R_CTL_ELS_REPLY && frame->wire_bytes == LOGIN_BYTES &&
           frame->bytes == LOGIN_BYTES && frame->payload[0] == ELS_LS_ACC &&
           frame->s_id < WELL_KNOWN && frame->d_id < WELL_KNOWN;
}

/* The LS_ACC of a PLOGI that was not seen. */
static void take_unasked(struct fc *f, const struct frame *frame, uint64_t time_ns) {
    static const struct request plogi = {.code = ELS_PLOGI};
    struct els els;
    if (!accepts_login(frame) || !els_parse(frame->payload, frame->bytes, ELS_PLOGI, &els))
        return;
    end_commands(f, frame, time_ns);
    take_accept(f, frame, &plogi, &els, time_ns);
}

static void take_service(struct fc *f, const struct frame *frame, uint64_t peer, uint64_t time_ns) {
    struct els els;
    bool reply = frame->r_ctl == R_CTL_ELS_REPLY || frame->r_ctl == R_CTL_FC4_REPLY;
    struct request *request = reply ? find(f->logins, frame, peer) : NULL;
    if (!els_parse(frame->payload, frame->bytes, request != NULL ? request->code : 0, &els)) {
        f->counters.malformed += frame->bytes >= frame->wire_bytes;
        return;
    }
    if (!reply)
        take_request(f, frame, peer, &els, time_ns);
    else if (request == NULL && peer == 0)
        take_unasked(f, frame, time_ns);
    else if (request != NULL && els.code == ELS_LS_ACC)
        take_accept(f, frame, request, &els, time_ns);
    if (request != NULL) {
        settle(f->logins, request);
        request->code = 0;
    }
}

void logins_frame(struct fc *f, const struct seen *seen) {
    if (!seen->again)
        take_service(f, &seen->frame, 0, seen->time_ns);
}

static void take_encapsulated(struct fc *f, const struct fip *fip, uint16_t vsan, uint64_t peer,
                              uint64_t time_ns) {
    struct frame frame;
    struct fc_frame envelope = {.data = fip->frame,
                                .bytes = (uint32_t)fip->frame_bytes,
                                .wire_bytes = (uint32_t)fip->frame_bytes,
                                .vsan = vsan,
                                .time_ns = time_ns};
    if (frame_parse(&envelope, &frame) == FRAME_GOOD && frame.type == TYPE_ELS)
        take_service(f, &frame, peer, time_ns);
    else
        f->counters.malformed++;
}

static void take_ports(struct fc *f, const struct fip *fip, uint16_t vsan, uint64_t time_ns) {
    bool clears = fip->operation == FIP_CONTROL && fip->subcode == FIP_CLEAR_LINKS;
    bool names = (fip->operation == FIP_CONTROL && !clears) ||
                 (fip->operation == FIP_VN2VN && fip->subcode >= FIP_CLAIM_NOTIFY &&
                  fip->subcode <= FIP_BEACON);
    for (size_t i = 0; i < fip->port_count; i++) {
        const struct fip_port *port = &fip->ports[i];
        if (clears)
            leave(f, vsan, port->fc_id, time_ns);
        else if (names)
            name_port(f, vsan, port->fc_id, port->wwpn, time_ns);
    }
}

void logins_fip(struct fc *f, const struct seen *seen) {
    struct fip fip;
    struct cursor c = cursor_of(seen->data, seen->frame.bytes);
    uint64_t destination = cursor_be(&c, 6);
    uint64_t source = cursor_be(&c, 6);
    size_t bytes = cursor_left(&c);
    if (seen->again)
        return;
    if (!fip_parse(cursor_bytes(&c, bytes), bytes, &fip)) {
        f->counters.malformed++;
        return;
    }
    take_ports(f, &fip, seen->frame.vsan, seen->time_ns);
    if (fip.frame != NULL)
        take_encapsulated(f, &fip, seen->frame.vsan,
                          fip.subcode == FIP_REPLY ? destination : source, seen->time_ns);
}
