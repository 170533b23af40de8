package link

import (
	"context"
	"fmt"
	"log/slog"

	"github.com/pion/logging"
)

// levelTrace is below slog's debug: a line for each check and chunk.
const levelTrace = slog.LevelDebug - 4

// pionLogs hands pion's logging to slog, all of it as debug or below: what pion calls
// an error, a stranger's datagram or a lost one can often cause.
type pionLogs struct{ log *slog.Logger }

// NewLogger implements [logging.LoggerFactory].
func (f pionLogs) NewLogger(scope string) logging.LeveledLogger {
	return pionLogger{f.log.With("pion", scope)}
}

type pionLogger struct{ log *slog.Logger }

func (l pionLogger) print(level slog.Level, msg string) {
	l.log.Log(context.Background(), level, msg)
}

func (l pionLogger) printf(level slog.Level, format string, args []any) {
	if l.log.Enabled(context.Background(), level) {
		l.print(level, fmt.Sprintf(format, args...))
	}
}

func (l pionLogger) Trace(msg string)          { l.print(levelTrace, msg) }
func (l pionLogger) Tracef(f string, a ...any) { l.printf(levelTrace, f, a) }
func (l pionLogger) Debug(msg string)          { l.print(levelTrace, msg) }
func (l pionLogger) Debugf(f string, a ...any) { l.printf(levelTrace, f, a) }
func (l pionLogger) Info(msg string)           { l.print(slog.LevelDebug, msg) }
func (l pionLogger) Infof(f string, a ...any)  { l.printf(slog.LevelDebug, f, a) }
func (l pionLogger) Warn(msg string)           { l.print(slog.LevelDebug, msg) }
func (l pionLogger) Warnf(f string, a ...any)  { l.printf(slog.LevelDebug, f, a) }
func (l pionLogger) Error(msg string)          { l.print(slog.LevelDebug, msg) }
func (l pionLogger) Errorf(f string, a ...any) { l.printf(slog.LevelDebug, f, a) }
