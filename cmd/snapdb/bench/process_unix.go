//go:build unix

package bench

import (
	"bytes"
	"fmt"
	"os"
	"runtime"
	"syscall"
)

func terminate(p *os.Process) error { return p.Signal(syscall.SIGTERM) }

// apart keeps Ctrl-C at a terminal from reaching a process that bench starts: it is
// stopped when its figures have been taken.
func apart() *syscall.SysProcAttr { return &syscall.SysProcAttr{Setpgid: true} }

// peakMB is the largest resident size a process had.
func peakMB(s *os.ProcessState) float64 {
	usage, ok := s.SysUsage().(*syscall.Rusage)
	if !ok {
		return 0
	}
	if runtime.GOOS == "darwin" {
		return float64(usage.Maxrss) / 1e6 // getrusage counts bytes there
	}
	return float64(usage.Maxrss) * 1024 / 1e6
}

// residentMB is the resident size of a running process, 0 where the system has
// no /proc to ask.
func residentMB(pid int) float64 {
	data, err := os.ReadFile(fmt.Sprintf("/proc/%d/status", pid))
	if err != nil {
		return 0
	}
	_, rest, _ := bytes.Cut(data, []byte("VmRSS:"))
	var kib float64
	if _, err := fmt.Sscan(string(rest), &kib); err != nil {
		return 0
	}
	return kib * 1024 / 1e6
}
