/*
 * nic: what Linux tells of a network card (SIOCETHTOOL): its receive ring, what it or the kernel
 * does to packets before they are captured, and whether it can stamp them.
 */
#ifndef SANREWIND_TAP_NIC_H
#define SANREWIND_TAP_NIC_H

#include <stdbool.h>
#include <stdint.h>

struct nic {
    char driver[32];  /* "" unknown: not a card, or no permission to ask */
    uint32_t rx_ring; /* entries; 0 unknown */
    uint32_t rx_ring_most;
    bool gro, lro, gso, tso;
    bool stamps_all; /* hardware receive stamps for every packet, not just PTP's */
};

void nic_read(const char *name, struct nic *nic);

#endif
