package apiserver

import (
	"context"
	"errors"
	"fmt"
	"net/http"
	"net/url"
	"slices"
	"strings"
	"sync"

	authenticationv1 "k8s.io/api/authentication/v1"
	apierrors "k8s.io/apimachinery/pkg/api/errors"
	"k8s.io/apimachinery/pkg/api/validation"
	"k8s.io/apimachinery/pkg/runtime/schema"
	utilvalidation "k8s.io/apimachinery/pkg/util/validation"
	"k8s.io/apimachinery/pkg/util/validation/field"
	"k8s.io/apiserver/pkg/authentication/serviceaccount"
	"k8s.io/apiserver/pkg/authentication/user"
	"k8s.io/apiserver/pkg/authorization/authorizer"
	"k8s.io/utils/lru"

	"sagong/apiserver/resource"
)

// impersonation lets those act as somebody else who may: for what a request does
// (constrained impersonation, https://kep.k8s.io/5284), or for everything (the
// verb impersonate).
type impersonation struct {
	once sync.Once
	last *lru.Cache // of the index of the mode that a user succeeded with last, by name
}

// remembered bounds of how many users the last mode is known.
const remembered = 4096

// impersonationMode is one way to ask for the right.
type impersonationMode struct {
	name string // "" for the verb impersonate
	// fits tells whether it is about whom the caller wants to be.
	fits func(caller user.Info, wanted *user.DefaultInfo) bool
}

// impersonationModes are asked in this order, as upstream does.
var impersonationModes = []impersonationMode{
	{"associated-node", func(caller user.Info, wanted *user.DefaultInfo) bool {
		node, ok := nodeOf(wanted.Name)
		_, _, err := serviceaccount.SplitUsername(caller.GetName())
		own := caller.GetExtra()[serviceaccount.NodeNameKey]
		return ok && err == nil && onlyName(wanted) && len(own) == 1 && own[0] == node
	}},
	{"arbitrary-node", func(_ user.Info, wanted *user.DefaultInfo) bool {
		_, ok := nodeOf(wanted.Name)
		return ok && onlyName(wanted)
	}},
	{"serviceaccount", func(_ user.Info, wanted *user.DefaultInfo) bool {
		_, _, err := serviceaccount.SplitUsername(wanted.Name)
		return err == nil && onlyName(wanted)
	}},
	{"user-info", func(_ user.Info, wanted *user.DefaultInfo) bool {
		_, node := nodeOf(wanted.Name)
		_, _, err := serviceaccount.SplitUsername(wanted.Name)
		return !node && err != nil
	}},
	{"", func(user.Info, *user.DefaultInfo) bool { return true }},
}

// nodeOf is the node whose agent has a user name.
func nodeOf(name string) (node string, ok bool) {
	node, ok = strings.CutPrefix(name, "system:node:")
	return node, ok && len(validation.NameIsDNSSubdomain(node, false)) == 0
}

func onlyName(u *user.DefaultInfo) bool {
	return u.UID == "" && len(u.Groups) == 0 && len(u.Extra) == 0
}

// impersonate makes the caller whom the headers name, and removes them: nobody
// behind must act differently for it.
func (q *request) impersonate() error {
	wanted, err := impersonationHeaders(q.r.Header)
	if wanted == nil || err != nil {
		return err
	}
	as, constraint, err := q.s.impersonation.find(q, wanted)
	if err != nil {
		return err
	}
	q.user = as
	q.audited.Impersonated(as, constraint)
	return nil
}

// impersonationHeaders reads whom a request wants to act as; nil for nobody else.
func impersonationHeaders(h http.Header) (*user.DefaultInfo, error) {
	wanted := &user.DefaultInfo{Name: h.Get(authenticationv1.ImpersonateUserHeader), UID: h.Get(authenticationv1.ImpersonateUIDHeader)}
	wanted.Groups = slices.Clone(h[authenticationv1.ImpersonateGroupHeader])
	more := wanted.UID != "" || len(wanted.Groups) > 0
	for k, v := range h {
		key, ok := strings.CutPrefix(k, authenticationv1.ImpersonateUserExtraHeaderPrefix)
		if !ok {
			continue
		}
		more = true
		key = strings.ToLower(key)
		if plain, err := url.PathUnescape(key); err == nil {
			key = plain
		}
		if wanted.Extra == nil {
			wanted.Extra = map[string][]string{}
		}
		wanted.Extra[key] = append(wanted.Extra[key], v...)
	}
	if wanted.Name == "" {
		if more {
			return nil, apierrors.NewBadRequest(fmt.Sprintf("requested %#v without impersonating a user name", wanted))
		}
		return nil, nil
	}
	for k := range h {
		if strings.HasPrefix(k, "Impersonate-") {
			h.Del(k)
		}
	}
	return wanted, nil
}

// find asks for the right in each mode, that which the caller succeeded with last
// before the others. Who may not is told what the first that fits wanted.
func (i *impersonation) find(q *request, wanted *user.DefaultInfo) (_ user.Info, constraint string, first error) {
	i.once.Do(func() { i.last = lru.New(remembered) })
	order := make([]int, 0, len(impersonationModes))
	if n, ok := i.last.Get(q.user.GetName()); ok {
		order = append(order, n.(int))
	}
	for n := range impersonationModes {
		if len(order) == 0 || n != order[0] {
			order = append(order, n)
		}
	}
	for _, n := range order {
		m := impersonationModes[n]
		if !m.fits(q.user, wanted) {
			continue
		}
		as, err := m.ask(q, wanted)
		if err == nil {
			i.last.Add(q.user.GetName(), n)
			if m.name != "" {
				constraint = "impersonate:" + m.name
			}
			return as, constraint, nil
		}
		if first == nil {
			first = err
		}
	}
	if first == nil {
		first = errors.New("all impersonation modes failed")
	}
	return nil, "", first
}

// manyChecks is the number of groups or extra values from which on one question
// about all of them goes before those about each.
const manyChecks = 4

// ask asks whether the caller may be the wanted user, and in a constrained mode
// whether for this request.
func (m impersonationMode) ask(q *request, wanted *user.DefaultInfo) (user.Info, error) {
	ctx := q.r.Context()
	caller, verb, group := q.user, "impersonate", ""
	constrained := m.name != ""
	if constrained {
		verb, group = "impersonate:"+m.name, authenticationv1.GroupName
		if m.name == "associated-node" {
			// The question is the same on every node, so that rules need not name them.
			caller = anywhere{caller}
		}
		on := q.attributes()
		on.User, on.Verb = caller, "impersonate-on:"+m.name+":"+on.Verb
		if err := q.may(ctx, on); err != nil {
			return nil, err
		}
	}
	about := func(group, res, name string) authorizer.AttributesRecord {
		return authorizer.AttributesRecord{User: caller, Verb: verb, APIGroup: group, APIVersion: "v1", Resource: res, Name: name, ResourceRequest: true}
	}
	as := *wanted
	who := about(group, "users", wanted.Name)
	if node, ok := nodeOf(wanted.Name); ok && constrained {
		who.Resource, who.Name = "nodes", node
		if m.name == "associated-node" {
			who.Name = "*"
		}
		as.Groups = []string{user.NodesGroup}
	}
	if namespace, account, err := serviceaccount.SplitUsername(wanted.Name); err == nil {
		who.Resource, who.Namespace, who.Name = "serviceaccounts", namespace, account
		if len(wanted.Groups) == 0 {
			as.Groups = serviceaccount.MakeGroupNames(namespace)
		}
	}
	if err := q.may(ctx, who); err != nil {
		return nil, err
	}
	if wanted.UID != "" {
		if err := q.may(ctx, about(authenticationv1.GroupName, "uids", wanted.UID)); err != nil {
			return nil, err
		}
	}
	if err := m.askGroups(ctx, q, about(group, "groups", ""), wanted.Groups); err != nil {
		return nil, err
	}
	if err := m.askExtra(ctx, q, about(authenticationv1.GroupName, "userextras", ""), wanted.Extra); err != nil {
		return nil, err
	}
	switch {
	case as.Name == user.Anonymous:
		as.Groups = with(as.Groups, user.AllUnauthenticated)
	case !slices.Contains(as.Groups, user.AllUnauthenticated):
		as.Groups = with(as.Groups, user.AllAuthenticated)
	}
	return &as, nil
}

func (m impersonationMode) askGroups(ctx context.Context, q *request, a authorizer.AttributesRecord, groups []string) error {
	if m.name != "" && len(groups) > 0 {
		if slices.Contains(groups, "") {
			return forbidden(a, "impersonating the empty string group is not allowed")
		}
		if slices.Contains(groups, user.SystemPrivilegedGroup) {
			a.Name = user.SystemPrivilegedGroup
			return forbidden(a, "impersonating the system:masters group is not allowed")
		}
		if a.Name = "*"; len(groups) >= manyChecks && q.may(ctx, a) == nil {
			return nil
		}
	}
	for _, a.Name = range groups {
		if err := q.may(ctx, a); err != nil {
			return err
		}
	}
	return nil
}

func (m impersonationMode) askExtra(ctx context.Context, q *request, a authorizer.AttributesRecord, extra map[string][]string) error {
	if m.name != "" && len(extra) > 0 {
		n := 0
		for key, values := range extra {
			if err := checkExtra(key, values); err != nil {
				return forbidden(a, err.Error())
			}
			n += len(values)
		}
		all := a
		if all.Subresource, all.Name = "*", "*"; n >= manyChecks && q.may(ctx, all) == nil {
			return nil
		}
	}
	for key, values := range extra {
		a.Subresource = key
		for _, a.Name = range values {
			if err := q.may(ctx, a); err != nil {
				return err
			}
		}
	}
	return nil
}

func checkExtra(key string, values []string) error {
	if key == "" {
		return errors.New("impersonating the empty string key in extra is not allowed")
	}
	if err := utilvalidation.IsDomainPrefixedPath(field.NewPath("extra", "key"), key).ToAggregate(); err != nil {
		return fmt.Errorf("impersonating an invalid key in extra is not allowed: %w", err)
	}
	switch {
	case key != strings.ToLower(key):
		return fmt.Errorf("impersonating a non-lowercase key in extra is not allowed: %q", key)
	case len(values) == 0:
		return errors.New("impersonating empty values in extra is not allowed")
	case slices.Contains(values, ""):
		return errors.New("impersonating the empty string value in extra is not allowed")
	}
	return nil
}

// with is groups and one more, in a slice of its own.
func with(groups []string, one string) []string {
	if slices.Contains(groups, one) {
		return groups
	}
	return append(groups[:len(groups):len(groups)], one)
}

// may is nil when the caller may do something, or the error that says what it may
// not.
func (q *request) may(ctx context.Context, a authorizer.AttributesRecord) error {
	if q.s.Authorizer == nil {
		return nil
	}
	decision, reason, err := q.s.Authorizer.Authorize(ctx, a)
	switch {
	case decision == authorizer.DecisionAllow:
		return nil
	case apierrors.IsForbidden(err):
		return err
	case err != nil && reason != "":
		reason = fmt.Sprintf("%v: %s", err, reason)
	case err != nil:
		reason = err.Error()
	}
	return forbidden(a, reason)
}

func forbidden(a authorizer.AttributesRecord, reason string) error {
	if a.ResourceRequest {
		return resource.ForbiddenResource(a.User, schema.GroupResource{Group: a.APIGroup, Resource: a.Resource}, a.Namespace, a.Name, a.Subresource, a.Verb, reason)
	}
	text := fmt.Sprintf("User %q cannot %s path %q", a.User.GetName(), a.Verb, a.Path)
	if reason != "" {
		text += ": " + reason
	}
	return apierrors.NewForbidden(schema.GroupResource{}, "", errors.New(text))
}

// anywhere is a service account of whom rules learn not on which node it runs, but
// that it does.
type anywhere struct{ user.Info }

// GetExtra implements user.Info.
func (a anywhere) GetExtra() map[string][]string {
	var keys []string
	for k := range a.Info.GetExtra() {
		keys = append(keys, k)
	}
	slices.Sort(keys)
	return map[string][]string{"authentication.kubernetes.io/associated-node-keys": keys}
}
