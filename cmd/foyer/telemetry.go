package main

import (
	"fmt"
	"os"

	"go.uber.org/zap"
	"go.uber.org/zap/zapcore"
)

// newLogger makes a logger that writes to standard error: to be read in a terminal, JSON otherwise. Its level may be
// changed at any time.
func newLogger(s *settings) (*zap.Logger, zap.AtomicLevel, error) {
	level, err := zap.ParseAtomicLevel(s.LogLevel)
	if err != nil {
		return nil, level, fmt.Errorf("--log-level: %w", err)
	}
	encoding := zap.NewProductionEncoderConfig()
	encoding.EncodeTime = zapcore.ISO8601TimeEncoder
	encoder := zapcore.NewJSONEncoder(encoding)
	terminal := isTerminal(os.Stderr)
	if s.LogFormat == "console" || s.LogFormat == "auto" && terminal {
		encoding = zap.NewDevelopmentEncoderConfig()
		encoding.EncodeTime = zapcore.TimeEncoderOfLayout("15:04:05.000")
		encoding.CallerKey, encoding.StacktraceKey = "", ""
		if terminal {
			encoding.EncodeLevel = zapcore.CapitalColorLevelEncoder
		}
		encoder = zapcore.NewConsoleEncoder(encoding)
	}
	return zap.New(zapcore.NewCore(encoder, zapcore.Lock(os.Stderr), level)), level, nil
}

func isTerminal(f *os.File) bool {
	info, err := f.Stat()
	return err == nil && info.Mode()&os.ModeCharDevice != 0
}
