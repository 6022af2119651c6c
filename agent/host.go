package agent

import (
	"fmt"
	"os"
	"strings"
	"sync"
	"time"

	"github.com/shirou/gopsutil/v4/cpu"
	"github.com/shirou/gopsutil/v4/disk"
	"github.com/shirou/gopsutil/v4/host"
	"github.com/shirou/gopsutil/v4/load"
	"github.com/shirou/gopsutil/v4/mem"
	"github.com/shirou/gopsutil/v4/process"

	"github.com/snapdb/snapdb/exec/engine"
	"github.com/snapdb/snapdb/subjects"
)

// factsEvery is how old the facts of a machine may be.
const factsEvery = 5 * time.Second

// machine is what a node knows of the machine that it runs on.
type machine struct {
	dir string // whose file system counts

	mu      sync.Mutex
	known   subjects.HostFacts
	sampled time.Time
}

// facts are at most factsEvery old. What the system does not tell stays zero.
func (m *machine) facts() *subjects.HostFacts {
	m.mu.Lock()
	defer m.mu.Unlock()
	if time.Since(m.sampled) >= factsEvery {
		m.sample()
	}
	known := m.known
	return &known
}

func (m *machine) sample() {
	f := &m.known
	if m.sampled.IsZero() {
		m.once()
	}
	m.sampled = time.Now()
	if percent, err := cpu.Percent(0, false); err == nil && len(percent) == 1 {
		f.CPUPercent = percent[0] // since the last sample
	}
	if avg, err := load.Avg(); err == nil {
		f.Load1 = avg.Load1
	}
	if memory, err := mem.VirtualMemory(); err == nil {
		f.MemoryTotal, f.MemoryUsed = memory.Total, memory.Used
	}
	if usage, err := disk.Usage(m.dir); err == nil {
		f.DiskTotal, f.DiskFree = usage.Total, usage.Free
	}
	if up, err := host.Uptime(); err == nil {
		f.UptimeS = up
	}
	if own, err := process.NewProcess(int32(os.Getpid())); err == nil {
		if memory, err := own.MemoryInfo(); err == nil {
			f.ProcessRSS = memory.RSS
		}
	}
}

// once asks for what does not change.
func (m *machine) once() {
	f := &m.known
	f.SQLite = engine.Version()
	if info, err := host.Info(); err == nil {
		f.Hostname, f.Kernel = info.Hostname, info.KernelVersion
		f.Platform = strings.TrimSpace(info.Platform + " " + info.PlatformVersion)
	}
	if n, err := cpu.Counts(true); err == nil {
		f.Cores = n
	}
}

// bootTime is when the machine was started.
func bootTime() (time.Time, error) {
	s, err := host.BootTime()
	if err != nil {
		return time.Time{}, fmt.Errorf("ask when the machine was started: %w", err)
	}
	return time.Unix(int64(s), 0), nil
}
