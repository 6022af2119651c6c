package pki

import (
	"crypto/x509"
	"fmt"
	"net"
	"net/netip"
	"os"
	"slices"
	"strings"
)

// names are what a server is called.
type names struct {
	dns []string
	ips []netip.Addr
}

// namesOf are those of a server at given hosts and on this machine. A host that
// stands for all addresses of the machine is all of them.
func namesOf(hosts []string) (names, error) {
	n := names{
		dns: []string{"localhost"},
		ips: []netip.Addr{netip.AddrFrom4([4]byte{127, 0, 0, 1}), netip.IPv6Loopback()},
	}
	if own, err := os.Hostname(); err == nil && isName(own) { // a machine can be called anything
		n.dns = append(n.dns, clean(own))
	}
	for _, host := range hosts {
		ip, err := netip.ParseAddr(host)
		switch {
		case host == "" || err == nil && ip.IsUnspecified():
			all, err := net.InterfaceAddrs()
			if err != nil {
				return names{}, fmt.Errorf("ask for the addresses of this machine: %w", err)
			}
			n.addMachine(all)
		case err == nil:
			n.ips = append(n.ips, ip.Unmap().WithZone(""))
		case isName(host):
			n.dns = append(n.dns, clean(host))
		default:
			return names{}, fmt.Errorf("%.300q is neither a host name nor an address; give one without a port", host)
		}
	}
	slices.Sort(n.dns)
	slices.SortFunc(n.ips, netip.Addr.Compare)
	n.dns, n.ips = slices.Compact(n.dns), slices.Compact(n.ips)
	return n, nil
}

// addMachine adds addresses of the machine, without those that mean something on one
// of its links only.
func (n *names) addMachine(all []net.Addr) {
	for _, a := range all {
		prefix, err := netip.ParsePrefix(a.String())
		if ip := prefix.Addr().Unmap(); err == nil && !ip.IsLinkLocalUnicast() {
			n.ips = append(n.ips, ip)
		}
	}
}

// clean is a host name as certificates have it.
func clean(host string) string { return strings.ToLower(strings.TrimSuffix(host, ".")) }

func isName(host string) bool {
	host = clean(host)
	if len(host) > 253 {
		return false
	}
	for label := range strings.SplitSeq(host, ".") {
		if label == "" || len(label) > 63 || strings.Trim(label, "abcdefghijklmnopqrstuvwxyz0123456789-_") != "" {
			return false
		}
	}
	return true
}

// in says whether a certificate is for all of them.
func (n names) in(c *x509.Certificate) bool {
	for _, name := range n.dns {
		if !slices.Contains(c.DNSNames, name) {
			return false
		}
	}
	for _, ip := range n.ips {
		if !slices.ContainsFunc(c.IPAddresses, func(has net.IP) bool { return has.Equal(ip.AsSlice()) }) {
			return false
		}
	}
	return true
}
