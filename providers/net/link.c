/* Network links by netlink and ioctl. Only system calls, no allocation: usable between fork and exec, and free of a process start of
 * ip(8), of which a node would need half a dozen. */
#include "providers/net/net.h"

#include <arpa/inet.h>
#include <errno.h>
#include <fcntl.h>
#include <linux/if_link.h>
#include <linux/if_tun.h>
#include <linux/netlink.h>
#include <linux/rtnetlink.h>
#include <linux/veth.h>
#include <net/if.h>
#include <net/if_arp.h>
#include <net/route.h>
#include <string.h>
#include <sys/ioctl.h>
#include <sys/socket.h>
#include <unistd.h>

struct request {
	struct nlmsghdr head;
	struct ifinfomsg info;
	char attributes[512];
};

static void request_init(struct request *r, uint16_t type, uint16_t flags)
{
	memset(r, 0, sizeof *r);
	r->head.nlmsg_len = NLMSG_LENGTH(sizeof r->info);
	r->head.nlmsg_type = type;
	r->head.nlmsg_flags = NLM_F_REQUEST | NLM_F_ACK | flags;
	r->info.ifi_family = AF_UNSPEC;
}

/* All that is ever added here fits by far: names of 15 bytes and integers. */
static struct rtattr *add(struct request *r, uint16_t type, const void *data, size_t len)
{
	struct rtattr *a = (struct rtattr *)((char *)r + NLMSG_ALIGN(r->head.nlmsg_len));

	a->rta_type = type;
	a->rta_len = (unsigned short)RTA_LENGTH(len);
	if (len)
		memcpy(RTA_DATA(a), data, len);
	r->head.nlmsg_len = (uint32_t)(NLMSG_ALIGN(r->head.nlmsg_len) + RTA_ALIGN(a->rta_len));
	return a;
}

static void end(struct request *r, struct rtattr *nest)
{
	nest->rta_len = (unsigned short)((char *)r + NLMSG_ALIGN(r->head.nlmsg_len) - (char *)nest);
}

static int send_and_wait(int nl, struct request *r)
{
	char reply[1024];
	ssize_t n;

	if (send(nl, r, r->head.nlmsg_len, 0) < 0)
		return -errno;
	do
		n = recv(nl, reply, sizeof reply, 0);
	while (n < 0 && errno == EINTR);
	if (n < 0)
		return -errno;
	struct nlmsghdr *head = (struct nlmsghdr *)reply;
	if (!NLMSG_OK(head, (size_t)n) || head->nlmsg_type != NLMSG_ERROR)
		return -EPROTO;
	return ((struct nlmsgerr *)NLMSG_DATA(head))->error;
}

int link_socket(void)
{
	int nl = socket(AF_NETLINK, SOCK_RAW | SOCK_CLOEXEC, NETLINK_ROUTE);

	return nl < 0 ? -errno : nl;
}

int link_veth(int nl, const char *host_end, uint32_t bridge, const uint8_t mac[6], int mtu, pid_t peer)
{
	struct request r;
	struct ifinfomsg none = {0};
	uint32_t pid = (uint32_t)peer, size = (uint32_t)mtu;

	request_init(&r, RTM_NEWLINK, NLM_F_CREATE | NLM_F_EXCL);
	r.info.ifi_flags = r.info.ifi_change = IFF_UP;
	add(&r, IFLA_IFNAME, host_end, strlen(host_end) + 1);
	add(&r, IFLA_MASTER, &bridge, sizeof bridge);
	if (mtu)
		add(&r, IFLA_MTU, &size, sizeof size);
	struct rtattr *info = add(&r, IFLA_LINKINFO, NULL, 0);
	add(&r, IFLA_INFO_KIND, "veth", 4);
	struct rtattr *data = add(&r, IFLA_INFO_DATA, NULL, 0);
	struct rtattr *other = add(&r, VETH_INFO_PEER, &none, sizeof none);
	add(&r, IFLA_IFNAME, "eth0", sizeof "eth0");
	add(&r, IFLA_ADDRESS, mac, 6);
	if (mtu)
		add(&r, IFLA_MTU, &size, sizeof size);
	add(&r, IFLA_NET_NS_PID, &pid, sizeof pid);
	end(&r, other);
	end(&r, data);
	end(&r, info);
	return send_and_wait(nl, &r);
}

static int make_tap(const char *name)
{
	struct ifreq req = {.ifr_flags = IFF_TAP | IFF_NO_PI | IFF_VNET_HDR};
	int fd = open("/dev/net/tun", O_RDWR | O_CLOEXEC), rc = 0;

	if (fd < 0)
		return -errno;
	memcpy(req.ifr_name, name, strlen(name) + 1);
	if (ioctl(fd, TUNSETIFF, &req) < 0 || ioctl(fd, TUNSETPERSIST, 1) < 0)
		rc = -errno;
	close(fd);
	return rc;
}

int link_tap(int nl, const char *name, uint32_t bridge, int mtu)
{
	struct request r;
	uint32_t size = (uint32_t)mtu;
	int rc = make_tap(name);

	if (rc < 0)
		return rc;
	request_init(&r, RTM_NEWLINK, 0);
	r.info.ifi_flags = r.info.ifi_change = IFF_UP;
	add(&r, IFLA_IFNAME, name, strlen(name) + 1);
	add(&r, IFLA_MASTER, &bridge, sizeof bridge);
	if (mtu)
		add(&r, IFLA_MTU, &size, sizeof size);
	return send_and_wait(nl, &r);
}

int link_delete(int nl, const char *name)
{
	struct request r;
	int rc;

	request_init(&r, RTM_DELLINK, 0);
	add(&r, IFLA_IFNAME, name, strlen(name) + 1);
	rc = send_and_wait(nl, &r);
	return rc == -ENODEV ? 0 : rc;
}

static struct sockaddr inet(uint32_t address)
{
	struct sockaddr_in in = {.sin_family = AF_INET, .sin_addr.s_addr = htonl(address)};
	struct sockaddr out;

	memcpy(&out, &in, sizeof out);
	return out;
}

static int set_address(int fd, const char *name, uint32_t address, int prefix)
{
	struct ifreq req = {0};

	memcpy(req.ifr_name, name, strlen(name) + 1);
	req.ifr_addr = inet(address);
	if (ioctl(fd, SIOCSIFADDR, &req) < 0)
		return -errno;
	req.ifr_netmask = inet(~0U << (32 - prefix));
	if (ioctl(fd, SIOCSIFNETMASK, &req) < 0)
		return -errno;
	req.ifr_broadaddr = inet(address | ~(~0U << (32 - prefix)));
	return ioctl(fd, SIOCSIFBRDADDR, &req) < 0 ? -errno : 0;
}

static int set_up(int fd, const char *name)
{
	struct ifreq req = {0};

	memcpy(req.ifr_name, name, strlen(name) + 1);
	if (ioctl(fd, SIOCGIFFLAGS, &req) < 0)
		return -errno;
	req.ifr_flags |= IFF_UP;
	return ioctl(fd, SIOCSIFFLAGS, &req) < 0 ? -errno : 0;
}

static int set_default_route(int fd, uint32_t gateway)
{
	struct rtentry route = {.rt_dst = inet(0), .rt_genmask = inet(0), .rt_gateway = inet(gateway), .rt_flags = RTF_UP | RTF_GATEWAY};

	return ioctl(fd, SIOCADDRT, &route) < 0 ? -errno : 0;
}

void link_forget(const char *device, uint32_t address)
{
	struct arpreq req = {.arp_pa = inet(address)};
	int fd = socket(AF_INET, SOCK_DGRAM | SOCK_CLOEXEC, 0);

	memcpy(req.arp_dev, device, strlen(device) + 1);
	if (fd < 0)
		return;
	ioctl(fd, SIOCDARP, &req); /* nothing is known of most */
	close(fd);
}

void link_announce(void)
{
	int fd = open("/proc/sys/net/ipv4/conf/all/arp_notify", O_WRONLY | O_CLOEXEC);

	if (fd < 0)
		return;
	ssize_t written = write(fd, "1", 1);
	(void)written; /* without it, it takes a while until all know */
	close(fd);
}

int link_configure(const char *name, uint32_t address, int prefix, uint32_t gateway)
{
	int fd = socket(AF_INET, SOCK_DGRAM | SOCK_CLOEXEC, 0), rc = 0;

	if (fd < 0)
		return -errno;
	if (prefix)
		rc = set_address(fd, name, address, prefix);
	if (rc == 0)
		rc = set_up(fd, name);
	if (rc == 0 && gateway)
		rc = set_default_route(fd, gateway);
	close(fd);
	return rc;
}
