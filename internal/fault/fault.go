// Package fault is the one vocabulary of errors that a user may see.
//
// Promise: a [Error] carries a kind (which decides the HTTP status and the exit code), a stable code from [Codes] and a sentence that
// says what happened and what to do next. Its text never contains the cause: that is for the log alone.
//
// Limits: the package does not know HTTP bodies; each door renders a fault in its own shape.
//
// Invariants: a code belongs to one kind; an error that is no fault is [Internal].
package fault

import (
	"errors"
	"net/http"
)

// Kind groups faults by what the caller can do about them.
type Kind int

// The kinds. Their order has no meaning.
const (
	Internal Kind = iota
	Invalid
	Unprocessable
	Unauthenticated
	Forbidden
	NotFound
	MethodNotAllowed
	Conflict
	Precondition
	TooLarge
	UnsupportedMedia
	TooMany
	Unavailable
)

type kindRow struct {
	name   string
	status int
	exit   int
}

func row(k Kind) kindRow {
	switch k {
	case Invalid:
		return kindRow{"invalid", http.StatusBadRequest, 2}
	case Unprocessable:
		return kindRow{"unprocessable", http.StatusUnprocessableEntity, 2}
	case Unauthenticated:
		return kindRow{"unauthenticated", http.StatusUnauthorized, 4}
	case Forbidden:
		return kindRow{"forbidden", http.StatusForbidden, 4}
	case NotFound:
		return kindRow{"not_found", http.StatusNotFound, 3}
	case MethodNotAllowed:
		return kindRow{"method_not_allowed", http.StatusMethodNotAllowed, 1}
	case Conflict:
		return kindRow{"conflict", http.StatusConflict, 1}
	case Precondition:
		return kindRow{"precondition", http.StatusPreconditionFailed, 1}
	case TooLarge:
		return kindRow{"too_large", http.StatusRequestEntityTooLarge, 2}
	case UnsupportedMedia:
		return kindRow{"unsupported_media", http.StatusUnsupportedMediaType, 1}
	case TooMany:
		return kindRow{"too_many", http.StatusTooManyRequests, 5}
	case Unavailable:
		return kindRow{"unavailable", http.StatusServiceUnavailable, 5}
	default:
		return kindRow{"internal", http.StatusInternalServerError, 1}
	}
}

// String returns the kind's name.
func (k Kind) String() string { return row(k).name }

// Status returns the HTTP status of the kind (RFC 9110); 500 for an unknown kind.
func (k Kind) Status() int { return row(k).status }

// Exit returns the command line's exit code: 1 failed, 2 usage, 3 not found, 4 refused, 5 unavailable.
func (k Kind) Exit() int { return row(k).exit }

// KindOfStatus returns the kind that an HTTP status stands for; the client uses it to choose its exit code.
func KindOfStatus(status int) Kind {
	for k := Internal; k <= Unavailable; k++ {
		if row(k).status == status {
			return k
		}
	}
	return Internal
}

// Field is one thing wrong with an input: a JSON pointer (RFC 6901) and a sentence. It never holds the rejected value.
type Field struct {
	Pointer string
	Message string
}

// Error is a fault. Make it with [New].
type Error struct {
	Kind   Kind
	Code   string
	Detail string
	Fields []Field
	// RetryAfter in whole seconds, when waiting helps; 0 otherwise.
	RetryAfter int
	cause      error
}

// New returns a fault with a code of [Codes]. A code that is not in the table, or is there with another kind, gives an internal fault: an
// unknown state must not look like a known one.
func New(kind Kind, code, detail string) *Error {
	if c, ok := Lookup(code); !ok || c.Kind != kind {
		return &Error{Kind: Internal, Code: "internal", Detail: internalDetail, cause: errors.New("fault: code " + code + " is not in the table with kind " + kind.String())}
	}
	return &Error{Kind: kind, Code: code, Detail: detail}
}

const internalDetail = "Signalbox failed to handle this. The request id leads to the cause in the server's log."

// With adds a field error and returns e.
func (e *Error) With(pointer, message string) *Error {
	e.Fields = append(e.Fields, Field{Pointer: pointer, Message: message})
	return e
}

// After sets the seconds after which a retry makes sense and returns e.
func (e *Error) After(seconds int) *Error {
	e.RetryAfter = seconds
	return e
}

// Because records the cause for the log and returns e. The cause's text is never part of [Error.Error].
func (e *Error) Because(cause error) *Error {
	e.cause = cause
	return e
}

// Error returns the sentence for the user.
func (e *Error) Error() string { return e.Detail }

// Unwrap returns the cause.
func (e *Error) Unwrap() error { return e.cause }

// As finds the fault in err's chain.
func As(err error) (*Error, bool) {
	var f *Error
	ok := errors.As(err, &f)
	return f, ok
}

// KindOf returns the kind of err: Internal when it is no fault.
func KindOf(err error) Kind {
	if f, ok := As(err); ok {
		return f.Kind
	}
	return Internal
}

// Of returns the fault in err, or an internal fault that hides err's text and keeps it as the cause.
func Of(err error) *Error {
	if f, ok := As(err); ok {
		return f
	}
	return &Error{Kind: Internal, Code: "internal", Detail: internalDetail, cause: err}
}
