package agent

import (
	"encoding/json"
	"fmt"
	"regexp"
	"sort"
	"strings"

	"github.com/nats-io/nats.go/micro"

	"github.com/snapdb/snapdb/subjects"
)

// semver is what a NATS service accepts as its version.
var semver = regexp.MustCompile(`^\d+\.\d+\.\d+(-[0-9A-Za-z.-]+)?(\+[0-9A-Za-z.-]+)?$`)

// open makes the node's doors, which stay until the slave stops: a copy can be
// read while its master is away.
func (s *Slave) open() error {
	version := strings.TrimPrefix(s.o.Version, "v")
	if !semver.MatchString(version) {
		version = "0.0.0" // a build without a version
	}
	service, err := micro.AddService(s.nc, micro.Config{
		Name: subjects.NodeService, Version: version, Description: "a snapdb slave: read-only SQL and commands",
		Metadata: map[string]string{"node": s.id, "boot": s.boot}, QueueGroupDisabled: true,
	})
	if err != nil {
		return fmt.Errorf("open doors: %w", err)
	}
	s.service = service
	if err := service.AddEndpoint("ctl", micro.HandlerFunc(s.obey), micro.WithEndpointSubject(subjects.NodeCtl(s.id))); err != nil {
		return fmt.Errorf("open door for commands: %w", err)
	}
	return nil
}

// ctlOps are the commands a node knows.
func (s *Slave) ctlOps() map[string]func(*subjects.CtlResponse) {
	return map[string]func(*subjects.CtlResponse){
		"ping": func(r *subjects.CtlResponse) { r.OK = true },
		"info": func(r *subjects.CtlResponse) {
			st := s.Status()
			r.OK, r.Info = true, &st
		},
	}
}

// obey carries out one command and answers with its outcome.
func (s *Slave) obey(r micro.Request) {
	resp := subjects.CtlResponse{ID: s.id, Boot: s.boot}
	var req subjects.CtlRequest
	ops := s.ctlOps()
	if err := json.Unmarshal(r.Data(), &req); err != nil {
		resp.Error = fmt.Sprintf(`malformed command: %v; expected for example {"op":"ping"}`, err)
	} else if do, ok := ops[req.Op]; ok {
		do(&resp)
	} else {
		known := make([]string, 0, len(ops))
		for op := range ops {
			known = append(known, op)
		}
		sort.Strings(known)
		resp.Error = fmt.Sprintf("unknown op %q: this node knows %s", req.Op, strings.Join(known, ", "))
	}
	if err := r.RespondJSON(resp); err != nil {
		s.log.Warn("command not answered", "op", req.Op, "error", err)
	}
}
