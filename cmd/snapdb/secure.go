package main

import (
	"errors"
	"fmt"
	"io"
	"net"
	"os"
	"strings"

	"github.com/spf13/cobra"

	"github.com/snapdb/snapdb/agent"
	"github.com/snapdb/snapdb/agent/access"
)

// protection is what was said about who may reach a master.
type protection struct {
	secure, insecure bool
	certificate      agent.Certificate

	// Set by decide.
	why     string // the master is secured, or is not
	exposed bool   // it is not, and can be reached over a network
}

func (p *protection) flags(cmd *cobra.Command) {
	f := cmd.Flags()
	f.BoolVar(&p.secure, "secure", false, "encryption and logins on a loopback address too")
	f.BoolVar(&p.insecure, "insecure", false, "listen on a network without encryption or logins: for networks where everybody is trusted")
	f.StringVar(&p.certificate.File, "tls-cert", "", "PEM `FILE` of a certificate to use instead of one of the cluster's own authority")
	f.StringVar(&p.certificate.Key, "tls-key", "", "PEM `FILE` of that certificate's private key")
	f.StringVar(&p.certificate.CA, "tls-ca", "", "PEM `FILE` of the authority behind that certificate, if clients do not know it by themselves")
	f.StringSliceVar(&p.certificate.Hosts, "host", nil, "`NAME` or address by which clients call the master, for those that check it; may be given several times")
}

// decide says whether a master is a secured one: what was secured once stays so, and
// what can be reached over a network is, unless somebody wants it open.
func (p *protection) decide(cmd *cobra.Command, o *agent.MasterOptions, http string) error {
	before, err := agent.Secured(o.Dir)
	if err != nil {
		return err
	}
	switch {
	case p.secure && p.insecure:
		return usageError(errors.New("give --secure or --insecure, not both"))
	case before && p.insecure:
		return flagError(cmd, "insecure", fmt.Errorf("the cluster in %s is secured: open to everybody, its users and roles would mean nothing, and its slaves would not come\n  leave --insecure away; to make an open cluster, start another in a new directory and bring the databases there (snapdb db dump, db import)", o.Dir))
	case before:
		o.Secure, p.why = true, "it has been secured before"
	case p.secure:
		o.Secure, p.why = true, "--secure"
	case loopback(o.Listen) && (!served(http) || loopback(http)):
		p.why = "it can be reached from this machine only"
	case p.insecure:
		p.exposed, p.why = true, "--insecure"
	case loopback(o.Listen):
		o.Secure, p.why = true, "--http can be reached over a network"
	default:
		o.Secure, p.why = true, "--nats can be reached over a network"
	}
	if err := p.checkCertificate(cmd, o.Secure); err != nil {
		return err
	}
	o.Certificate = p.certificate
	return nil
}

func (p *protection) checkCertificate(cmd *cobra.Command, secured bool) error {
	c := p.certificate
	for name, given := range map[string]bool{"tls-cert": c.File != "", "tls-key": c.Key != "", "tls-ca": c.CA != "", "host": c.Hosts != nil} {
		if given && !secured {
			return flagError(cmd, name, errors.New("says how a secured master shows who it is, and this one would be open: give --secure"))
		}
	}
	switch {
	case c.File != "" && c.Key == "":
		return flagError(cmd, "tls-cert", errors.New("takes the certificate's private key too: give --tls-key"))
	case c.File == "" && c.Key != "":
		return flagError(cmd, "tls-key", errors.New("takes the certificate too: give --tls-cert"))
	case c.File == "" && c.CA != "":
		return flagError(cmd, "tls-ca", errors.New("is the authority behind a certificate that was brought: give --tls-cert and --tls-key"))
	}
	for _, f := range [][2]string{{"tls-cert", c.File}, {"tls-key", c.Key}, {"tls-ca", c.CA}} {
		if f[1] == "" {
			continue
		}
		if _, err := os.Stat(f[1]); err != nil {
			return flagError(cmd, f[0], err)
		}
	}
	return nil
}

// warn tells the log of a master that everybody on a network may use.
func (p *protection) warn(o agent.MasterOptions, http string) {
	if p.exposed {
		o.Logger.Warn("insecure: whoever reaches these addresses can run SQL and command the nodes", "nats", o.Listen, "http", http)
	}
}

// introduce says by what a secured master is known, and at its first start who may log
// in to it.
func introduce(out io.Writer, m *agent.Master, o agent.MasterOptions) {
	if !o.Secure {
		return
	}
	pin := m.Fingerprint()
	if password := m.FirstPassword(); password != "" {
		login := "snapdb login --server " + reachable(m.URL(), o.Listen, o.Certificate.Hosts)
		if pin != "" {
			login += " --pin " + pin
		}
		fmt.Fprintf(out, `this cluster is secured: here is its first user, shown this once

  user      %s
  password  %s   for one time: login asks for another

  %s --user %s
  snapdb node invite      prints the command that starts a slave

`, access.AdminName, password, login, access.AdminName)
	}
	if pin != "" {
		fmt.Fprintf(out, "fingerprint %s\n", pin)
	}
}

// reachable is the address of a master that listens at an address, as other machines would
// call it: by the name that it was told, or else by one that its machine has there.
func reachable(url, listen string, hosts []string) string {
	scheme, at, _ := strings.Cut(url, "://")
	host, port, err := net.SplitHostPort(at)
	if err != nil {
		return url
	}
	if own, _, err := net.SplitHostPort(listen); err == nil && net.ParseIP(own).IsUnspecified() {
		host = networkAddress(host)
	}
	if len(hosts) > 0 {
		host = hosts[0]
	}
	return scheme + "://" + net.JoinHostPort(host, port)
}

// networkAddress is one of this machine on a network, or else what is given.
func networkAddress(otherwise string) string {
	addrs, err := net.InterfaceAddrs()
	if err != nil {
		return otherwise
	}
	for _, a := range addrs {
		if n, ok := a.(*net.IPNet); ok && n.IP.To4() != nil && n.IP.IsGlobalUnicast() {
			return n.IP.String()
		}
	}
	return otherwise
}

func resetAdminCommand() *cobra.Command {
	var dir string
	cmd := &cobra.Command{
		Use:   "reset-admin",
		Short: "give the user admin a new one-time password",
		Long: `reset-admin is for who has lost the password of the last admin, but owns the
machine of the master. The master must be stopped. The user admin gets a password for
one time, and is made again if it was removed.`,
		Example: "  snapdb master reset-admin --data m",
		Args:    noArgs,
		RunE: func(cmd *cobra.Command, _ []string) error {
			password, err := agent.ResetAdmin(cmd.Context(), dir)
			if errors.Is(err, agent.ErrOpen) {
				return fmt.Errorf("--data: %w\n  is it the right directory? snapdb master --secure secures a cluster", err)
			}
			if err != nil {
				return explainStart(err)
			}
			_, err = fmt.Fprintf(cmd.OutOrStdout(), "user      %s\npassword  %s   for one time: snapdb login asks for another\n", access.AdminName, password)
			return err
		},
	}
	dataFlag(cmd, &dir)
	return cmd
}
