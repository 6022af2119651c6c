package broker

import (
	"fmt"
	"log/slog"
)

// serverLog hands the server's lines to slog. Its notices are chatter to us.
type serverLog struct {
	log   *slog.Logger
	fatal chan error // holds the first failure that should end the process
}

func newServerLog(log *slog.Logger) *serverLog {
	return &serverLog{log: log.With("part", "nats"), fatal: make(chan error, 1)}
}

// failure is why the server could not start, nil if it could.
func (l *serverLog) failure() error {
	select {
	case err := <-l.fatal:
		return err
	default:
		return nil
	}
}

// Fatalf must not end the process. The server tells failures of its start, a
// taken port for one, in no other way.
func (l *serverLog) Fatalf(f string, v ...any) {
	err := fmt.Errorf(f, v...)
	for _, arg := range v {
		if cause, ok := arg.(error); ok {
			err = cause
		}
	}
	select {
	case l.fatal <- err:
	default:
		l.log.Error(err.Error())
	}
}

// Noticef logs for those who debug.
func (l *serverLog) Noticef(f string, v ...any) { l.log.Debug(fmt.Sprintf(f, v...)) }

// Debugf logs for those who debug.
func (l *serverLog) Debugf(f string, v ...any) { l.log.Debug(fmt.Sprintf(f, v...)) }

// Tracef logs for those who debug.
func (l *serverLog) Tracef(f string, v ...any) { l.log.Debug(fmt.Sprintf(f, v...)) }

// Warnf logs a warning.
func (l *serverLog) Warnf(f string, v ...any) { l.log.Warn(fmt.Sprintf(f, v...)) }

// Errorf logs an error.
func (l *serverLog) Errorf(f string, v ...any) { l.log.Error(fmt.Sprintf(f, v...)) }
