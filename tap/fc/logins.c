#include "tap/fc/els.h"
#include "tap/fc/fip.h"
#include "tap/fc/internal.h"

/* ELS requests whose answer is to come: what it means depends on them. */
enum { PENDING = 512 };
/* Nobody waits longer for an answer: twice R_A_TOV, and some retries. */
#define ANSWER_NS (60 * NS_PER_SECOND)

struct request {
    uint64_t peer; /* MAC address in FIP, where ports have no FC_ID yet; 0 otherwise */
    uint64_t wwpn;
    uint64_t time_ns;
    uint32_t s_id;
    uint32_t d_id;
    uint16_t vsan;
    uint16_t ox_id;
    uint8_t code; /* 0: free */
};

struct logins {
    struct request pending[PENDING]; /* a ring */
    size_t next;
};

struct logins *logins_create(void) {
    return calloc(1, sizeof(struct logins));
}

void logins_destroy(struct logins *l) {
    free(l);
}

static void remember(struct logins *l, const struct frame *frame, uint64_t peer,
                     const struct els *els, uint64_t time_ns) {
    l->pending[l->next++ % PENDING] = (struct request){.peer = peer,
                                                       .wwpn = els->wwpn,
                                                       .time_ns = time_ns,
                                                       .s_id = frame->s_id,
                                                       .d_id = frame->d_id,
                                                       .vsan = frame->vsan,
                                                       .ox_id = frame->ox_id,
                                                       .code = els->code};
}

/* A port that logs in to the fabric has no FC_ID before the answer, which is sent to its new one.
 */
static bool is_fabric_login(uint8_t code, uint32_t d_id) {
    return d_id == FC_FABRIC_PORT && (code == ELS_FLOGI || code == ELS_FDISC);
}

/* Not another's, which was never seen, with the exchange identifier of one that got none. */
static bool has_shape_for(const struct frame *frame, uint8_t code) {
    if (frame->bytes == 0 || frame->payload[0] != ELS_LS_ACC)
        return true;
    switch (code) {
    case ELS_PLOGI:
    case ELS_FLOGI:
    case ELS_PDISC:
    case ELS_FDISC:
        return frame->wire_bytes >= ELS_LOGIN_BYTES;
    case ELS_ADISC:
    case ELS_LOGO:
    case ELS_PRLI:
    case ELS_PRLO:
    case ELS_TPRLO:
    case ELS_REC:
    case ELS_SRR:
        return els_answers(frame->payload, frame->bytes, frame->wire_bytes) != ELS_PLOGI;
    default:
        return true;
    }
}

static bool is_answer(const struct request *r, const struct frame *frame, uint64_t peer,
                      uint64_t time_ns) {
    return r->code != 0 && r->vsan == frame->vsan && r->ox_id == frame->ox_id &&
           r->d_id == frame->s_id && r->peer == peer && time_ns < r->time_ns + ANSWER_NS &&
           (r->s_id == frame->d_id || is_fabric_login(r->code, r->d_id)) &&
           has_shape_for(frame, r->code);
}

/* The newest: one before it with the same OX_ID was never answered. */
static struct request *find(struct logins *l, const struct frame *frame, uint64_t peer,
                            uint64_t time_ns) {
    for (size_t i = 1; i <= PENDING; i++) {
        struct request *request = &l->pending[(l->next - i) % PENDING];
        if (is_answer(request, frame, peer, time_ns))
            return request;
    }
    return NULL;
}

/* Several ports log in to the fabric at once: whose answer it is, only they know. */
static bool is_of_several(const struct logins *l, const struct request *request,
                          const struct frame *frame, uint64_t time_ns) {
    for (size_t i = 0; i < PENDING; i++) {
        const struct request *other = &l->pending[i];
        if (other->wwpn != request->wwpn && is_answer(other, frame, request->peer, time_ns))
            return true;
    }
    return false;
}

static void name_port(struct fc *f, uint16_t vsan, uint32_t fc_id, uint64_t wwpn,
                      uint64_t time_ns) {
    if (fc_id == 0 || fc_id >= FC_WELL_KNOWN || wwpn == 0)
        return;
    f->counters.logins++;
    nexus_name(f, vsan, fc_id, wwpn, time_ns);
}

static void leave(struct fc *f, uint16_t vsan, uint32_t fc_id, uint64_t time_ns) {
    nexus_leave(f, vsan, fc_id, "its port left the fabric before its status was seen", time_ns);
    names_forget(f->names, vsan, fc_id);
}

/*
 * A login says who has the FC_ID from now on. Whoever was there before, without a name since some
 * other login was lost, need not be the same.
 */
static void name_newcomer(struct fc *f, uint16_t vsan, uint32_t fc_id, uint64_t wwpn,
                          uint64_t time_ns) {
    if (wwpn != 0 && names_is_forgotten(f->names, vsan, fc_id))
        leave(f, vsan, fc_id, time_ns);
    name_port(f, vsan, fc_id, wwpn, time_ns);
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

/* The port logs in anew: whoever has the FC_ID that it had is another one, or nobody. */
static void leave_old_address(struct fc *f, uint16_t vsan, uint64_t wwpn, uint64_t time_ns) {
    uint32_t owner = wwpn != 0 ? names_owner(f->names, vsan, wwpn) : 0;
    if (owner != 0)
        leave(f, vsan, owner, time_ns);
}

static void take_login(struct fc *f, const struct frame *frame, const struct els *els,
                       uint64_t time_ns) {
    if (is_fabric_login(els->code, frame->d_id)) {
        leave_old_address(f, frame->vsan, els->wwpn, time_ns);
        return;
    }
    name_newcomer(f, frame->vsan, frame->s_id, els->wwpn, time_ns);
    end_commands(f, frame, time_ns);
    pairs_end_login(f, frame, time_ns);
}

static void take_logout(struct fc *f, const struct frame *frame, const struct els *els,
                        uint64_t time_ns) {
    if (frame->d_id == FC_FABRIC_PORT || frame->s_id == FC_FABRIC_PORT) {
        leave(f, frame->vsan, frame->d_id == FC_FABRIC_PORT ? frame->s_id : frame->d_id, time_ns);
        return;
    }
    end_commands(f, frame, time_ns);
    pairs_end_login(f, frame, time_ns);
    /* Refused by whoever has the FC_ID now, for want of a login. */
    if (els->code == ELS_LOGO && els->fc_id == frame->s_id)
        name_port(f, frame->vsan, frame->s_id, els->wwpn, time_ns);
}

static void take_process_login(struct fc *f, const struct frame *frame, uint64_t time_ns) {
    end_commands(f, frame, time_ns);
    pairs_process_login(f, frame, time_ns);
}

static void take_request(struct fc *f, const struct frame *frame, uint64_t peer,
                         const struct els *els, uint64_t time_ns) {
    remember(f->logins, frame, peer, els, time_ns);
    switch (els->code) {
    case ELS_PLOGI:
    case ELS_FLOGI: /* not to the fabric: of a VN2VN port */
    case ELS_FDISC:
        take_login(f, frame, els, time_ns);
        break;
    case ELS_PDISC:
    case ELS_ADISC:
        name_port(f, frame->vsan, frame->s_id, els->wwpn, time_ns);
        break;
    case ELS_LOGO:
    case ELS_PRLO:
    case ELS_TPRLO:
        take_logout(f, frame, els, time_ns);
        break;
    case ELS_PRLI:
        if (els->type != TYPE_NVME)
            take_process_login(f, frame, time_ns);
        break;
    case ELS_REC:
    case ELS_SRR:
        note_recovery(f, frame, els);
        break;
    default: /* RSCN and the like: nobody takes commands at another port's FC_ID without a PLOGI */
        break;
    }
}

static void take_fabric_accept(struct fc *f, const struct frame *frame,
                               const struct request *request, uint64_t time_ns) {
    if (is_of_several(f->logins, request, frame, time_ns)) {
        leave(f, frame->vsan, frame->d_id, time_ns);
        return;
    }
    name_newcomer(f, frame->vsan, frame->d_id, request->wwpn, time_ns);
    if (request->peer != 0 && frame->d_id > 0 && frame->d_id < FC_WELL_KNOWN)
        names_set_enode(f->names, frame->vsan, frame->d_id, request->peer);
}

static void take_accept(struct fc *f, const struct frame *frame, const struct request *request,
                        const struct els *els, uint64_t time_ns) {
    switch (request->code) {
    case ELS_PLOGI:
    case ELS_PDISC:
    case ELS_ADISC:
        /* Unless it is late, and commands came that belong to it. */
        if (request->code == ELS_PLOGI && pairs_is_due(f, frame))
            name_newcomer(f, frame->vsan, frame->s_id, els->wwpn, time_ns);
        else
            name_port(f, frame->vsan, frame->s_id, els->wwpn, time_ns);
        /* A discovery is no login: a PRLI behind it may be that of one that was not seen. */
        if (request->code == ELS_PLOGI && els->wwpn != 0)
            pairs_confirm(f, frame, false, time_ns);
        break;
    case ELS_FLOGI:
    case ELS_FDISC:
        take_fabric_accept(f, frame, request, time_ns);
        break;
    default:
        break;
    }
}

/* An LS_ACC of the length of a login's, of which no request was seen. */
static void take_unasked_login(struct fc *f, const struct frame *frame, uint64_t peer,
                               uint64_t time_ns) {
    struct els els;
    if (frame->s_id == FC_FABRIC_PORT) { /* somebody has this FC_ID from now on */
        leave(f, frame->vsan, frame->d_id, time_ns);
        return;
    }
    if (peer != 0 || frame->s_id >= FC_WELL_KNOWN || frame->d_id >= FC_WELL_KNOWN ||
        !els_parse(frame->payload, frame->bytes, ELS_PLOGI, &els) || els.wwpn == 0)
        return;
    end_commands(f, frame, time_ns);
    name_newcomer(f, frame->vsan, frame->s_id, els.wwpn, time_ns);
    pairs_confirm(f, frame, true, time_ns);
}

static void take_unasked(struct fc *f, const struct frame *frame, uint64_t peer, uint64_t time_ns) {
    switch (els_answers(frame->payload, frame->bytes, frame->wire_bytes)) {
    case ELS_PLOGI:
        take_unasked_login(f, frame, peer, time_ns);
        break;
    case ELS_PRLI:
        take_process_login(f, frame, time_ns);
        break;
    default:
        break;
    }
}

static void take_service(struct fc *f, const struct frame *frame, uint64_t peer, uint64_t time_ns) {
    struct els els;
    bool reply = frame->r_ctl == R_CTL_ELS_REPLY || frame->r_ctl == R_CTL_FC4_REPLY;
    struct request *request = reply ? find(f->logins, frame, peer, time_ns) : NULL;
    if (!els_parse(frame->payload, frame->bytes, request != NULL ? request->code : 0, &els)) {
        f->counters.malformed += frame->bytes >= frame->wire_bytes;
        return;
    }
    if (!reply)
        take_request(f, frame, peer, &els, time_ns);
    else if (request == NULL && frame->r_ctl == R_CTL_ELS_REPLY)
        take_unasked(f, frame, peer, time_ns);
    else if (request != NULL && els.code == ELS_LS_ACC)
        take_accept(f, frame, request, &els, time_ns);
    if (request != NULL)
        request->code = 0;
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

/* FC-BB-6, 7.7.4: all ports of the ENode, when none is named. */
static void clear_enode(struct fc *f, uint16_t vsan, uint64_t enode, uint64_t time_ns) {
    uint32_t fc_ids[FIP_PORTS_MOST];
    size_t count = names_behind(f->names, vsan, enode, fc_ids, FIP_PORTS_MOST);
    for (size_t i = 0; i < count; i++)
        leave(f, vsan, fc_ids[i], time_ns);
}

static void take_ports(struct fc *f, const struct fip *fip, uint16_t vsan, uint64_t destination,
                       uint64_t time_ns) {
    bool clears = fip->operation == FIP_CONTROL && fip->subcode == FIP_CLEAR_LINKS;
    bool names = (fip->operation == FIP_CONTROL && !clears) ||
                 (fip->operation == FIP_VN2VN && fip->subcode >= FIP_CLAIM_NOTIFY &&
                  fip->subcode <= FIP_BEACON);
    if (clears && fip->port_count == 0)
        clear_enode(f, vsan, destination, time_ns);
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
    take_ports(f, &fip, seen->frame.vsan, destination, seen->time_ns);
    if (fip.frame != NULL)
        take_encapsulated(f, &fip, seen->frame.vsan,
                          fip.subcode == FIP_REPLY ? destination : source, seen->time_ns);
}
