package hbase

import (
	"bytes"
	"errors"
	"strings"
)

// RemoteError is an exception of a server.
type RemoteError struct {
	Class   string // of Java
	Message string // its first line
	// DoNotRetry: the server says that the same request will fail again.
	DoNotRetry bool
	region     bool // it is about the region, not about a mutation
}

func (e *RemoteError) Error() string {
	if e.Message == "" {
		return e.simple()
	}
	return e.simple() + ": " + e.Message
}

// simple is the class without its package.
func (e *RemoteError) simple() string { return e.Class[strings.LastIndexByte(e.Class, '.')+1:] }

// setTrace takes the message out of a stack trace. It is bounded: it ends up
// in logs.
func (e *RemoteError) setTrace(b []byte) {
	line, _, _ := bytes.Cut(b, []byte("\n"))
	s := strings.TrimSpace(string(line[:min(len(line), 1000)]))
	s = strings.TrimPrefix(s, e.Class)
	e.Message = strings.ToValidUTF8(strings.TrimPrefix(s, ": "), "\uFFFD")
}

// doNotRetry are the exceptions that say so by their class, where they come
// without the flag: those of single mutations.
var doNotRetry = map[string]bool{
	"DoNotRetryIOException":           true,
	"FailedSanityCheckException":      true,
	"NoSuchColumnFamilyException":     true,
	"InvalidFamilyOperationException": true,
	"TableNotFoundException":          true,
	"TableNotEnabledException":        true,
	"AccessDeniedException":           true,
	"SpaceLimitingException":          true,
	"RequestTooBigException":          true,
}

// remedy is what the client does about an error of a server.
type remedy uint8

const (
	giveUp remedy = iota
	waitAndRetry
	lookUpAgain // and try there
	hangUp      // look all regions of that server up again
)

var remedies = map[string]remedy{
	"NotServingRegionException":    lookUpAgain,
	"RegionMovedException":         lookUpAgain,
	"WrongRegionException":         lookUpAgain,
	"RegionOfflineException":       lookUpAgain,
	"RegionServerStoppedException": hangUp,
	"RegionServerAbortedException": hangUp,
	"ServerNotRunningYetException": hangUp,
	"ServerStoppedException":       hangUp,
	// They are do-not-retry to Java's client only where another client object retries.
	"CallQueueTooBigException": waitAndRetry,
	"CallDroppedException":     waitAndRetry,
	"RegionTooBusyException":   waitAndRetry,
	"RegionOpeningException":   waitAndRetry,
	"PleaseHoldException":      waitAndRetry,
	"RpcThrottlingException":   waitAndRetry,
}

func (e *RemoteError) remedy() remedy {
	if r, ok := remedies[e.simple()]; ok {
		return r
	}
	// How a batch says that a row is not in the region.
	if e.simple() == "FailedSanityCheckException" && strings.Contains(e.Message, "out of range") {
		return lookUpAgain
	}
	if e.DoNotRetry {
		return giveUp
	}
	return waitAndRetry
}

// ErrNoTable is what Do's error wraps when hbase:meta does not have the table.
var ErrNoTable = errors.New("there is no such table")

// Is says whether err has an exception of that class, named without package.
func Is(err error, class string) bool {
	var e *RemoteError
	return errors.As(err, &e) && e.simple() == class
}

// IsPermanent says whether a mutation's error would be the same however often
// it were tried: the cell is larger than the server takes, the row key is
// empty. A missing table or family, or a permission, is not of that kind.
func IsPermanent(err error) bool {
	for _, e := range []error{ErrNoRow, ErrLongRow, ErrBigCell} {
		if errors.Is(err, e) {
			return true
		}
	}
	var e *RemoteError
	if !errors.As(err, &e) || e.region || e.remedy() != giveUp {
		return false
	}
	switch e.simple() {
	case "DoNotRetryIOException", "FailedSanityCheckException", "RequestTooBigException":
		return true
	}
	return false
}
