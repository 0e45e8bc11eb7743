#include "tap/capture/nic.h"

#include <linux/ethtool.h>
#include <linux/net_tstamp.h>
#include <linux/sockios.h>
#include <net/if.h>
#include <string.h>
#include <sys/ioctl.h>
#include <sys/socket.h>
#include <unistd.h>

static bool ask(int fd, const char *name, void *command) {
    struct ifreq request = {.ifr_data = command};
    strncpy(request.ifr_name, name, sizeof request.ifr_name - 1);
    return ioctl(fd, SIOCETHTOOL, &request) == 0;
}

static bool ask_value(int fd, const char *name, uint32_t command, uint32_t flag) {
    struct ethtool_value value = {.cmd = command};
    return ask(fd, name, &value) && (value.data & flag) != 0;
}

static void read_ring(int fd, const char *name, struct nic *nic) {
    struct ethtool_ringparam ring = {.cmd = ETHTOOL_GRINGPARAM};
    if (!ask(fd, name, &ring))
        return;
    nic->rx_ring = ring.rx_pending;
    nic->rx_ring_most = ring.rx_max_pending;
}

static void read_stamps(int fd, const char *name, struct nic *nic) {
    struct ethtool_ts_info info = {.cmd = ETHTOOL_GET_TS_INFO};
    nic->stamps_all = ask(fd, name, &info) &&
                      (info.so_timestamping & SOF_TIMESTAMPING_RX_HARDWARE) != 0 &&
                      (info.rx_filters >> HWTSTAMP_FILTER_ALL & 1) != 0;
}

void nic_read(const char *name, struct nic *nic) {
    *nic = (struct nic){0};
    int fd = socket(AF_INET, SOCK_DGRAM | SOCK_CLOEXEC, 0);
    if (fd < 0)
        return;
    struct ethtool_drvinfo driver = {.cmd = ETHTOOL_GDRVINFO};
    if (ask(fd, name, &driver))
        memcpy(nic->driver, driver.driver, sizeof nic->driver - 1);
    read_ring(fd, name, nic);
    read_stamps(fd, name, nic);
    nic->gro = ask_value(fd, name, ETHTOOL_GGRO, 1);
    nic->lro = ask_value(fd, name, ETHTOOL_GFLAGS, ETH_FLAG_LRO);
    nic->gso = ask_value(fd, name, ETHTOOL_GGSO, 1);
    nic->tso = ask_value(fd, name, ETHTOOL_GTSO, 1);
    close(fd);
}
