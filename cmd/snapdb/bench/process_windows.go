package bench

import (
	"os"
	"syscall"
)

// terminate ends a process: Windows has no signal that asks it to.
func terminate(p *os.Process) error { return p.Kill() }

// apart keeps Ctrl-C at a console from reaching a process that bench starts.
func apart() *syscall.SysProcAttr {
	return &syscall.SysProcAttr{CreationFlags: syscall.CREATE_NEW_PROCESS_GROUP}
}

func peakMB(*os.ProcessState) float64 { return 0 }

func residentMB(int) float64 { return 0 }
