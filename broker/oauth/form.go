// SPDX-License-Identifier: Apache-2.0
// SPDX-FileCopyrightText: The jurat authors

package oauth

import (
	"errors"
	"io"
	"mime"
	"net/http"
	"net/url"
	"unicode/utf8"
)

// Form is the parameters of a request, each given once.
type Form map[string]string

// ParseForm reads the form in the body of r. Parameters in the URL, a
// parameter given twice, another content type or a long body are refused; a
// parameter without a value counts as not given (RFC 6749 section 3.2).
func ParseForm(w http.ResponseWriter, r *http.Request) (Form, *Error) {
	if r.URL.RawQuery != "" {
		return nil, malformed("parameters belong into the body, not into the URL")
	}
	if kind, _, err := mime.ParseMediaType(r.Header.Get("Content-Type")); err != nil || kind != "application/x-www-form-urlencoded" {
		e := malformed("content type %q, want application/x-www-form-urlencoded", r.Header.Get("Content-Type"))
		e.Status, e.Code = http.StatusUnsupportedMediaType, UnsupportedFormat
		return nil, e
	}
	body, err := io.ReadAll(http.MaxBytesReader(w, r.Body, MaxForm))
	if err != nil {
		return nil, bodyError(err, MaxForm)
	}
	values, err := url.ParseQuery(string(body))
	if err != nil {
		return nil, malformed("malformed form: %v", err)
	}
	form := make(Form, len(values))
	for name, given := range values {
		if len(given) != 1 {
			return nil, malformed("parameter %q is given %d times", name, len(given))
		}
		if !utf8.ValidString(name) || !utf8.ValidString(given[0]) {
			return nil, malformed("parameter %q is not UTF-8", name)
		}
		if given[0] != "" {
			form[name] = given[0]
		}
	}
	return form, nil
}

// bodyError says why a body could not be read.
func bodyError(err error, limit int64) *Error {
	var long *http.MaxBytesError
	if errors.As(err, &long) {
		e := malformed("body of more than %d bytes", limit)
		e.Status, e.Code = http.StatusRequestEntityTooLarge, TooLarge
		return e
	}
	return malformed("reading the body: %v", err)
}

// ReadBody reads at most limit bytes.
func ReadBody(w http.ResponseWriter, r *http.Request, limit int64) ([]byte, *Error) {
	body, err := io.ReadAll(http.MaxBytesReader(w, r.Body, limit))
	if err != nil {
		return nil, bodyError(err, limit)
	}
	return body, nil
}

// ParseBasic returns the id and secret of HTTP Basic authentication, each
// form-encoded as RFC 6749 section 2.3.1 says.
func ParseBasic(r *http.Request) (id, secret string, ok bool) {
	if len(r.Header.Values("Authorization")) != 1 {
		return "", "", false
	}
	user, password, ok := r.BasicAuth()
	if !ok {
		return "", "", false
	}
	id, err := url.QueryUnescape(user)
	if err != nil {
		return "", "", false
	}
	secret, err = url.QueryUnescape(password)
	return id, secret, err == nil && id != "" && secret != ""
}
