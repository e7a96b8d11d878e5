package device

import (
	"cmp"
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io/fs"
	"log/slog"
	"maps"
	"os"
	"path/filepath"
	"slices"
	"sync"
	"time"

	corev1 "k8s.io/api/core/v1"
	resourcev1 "k8s.io/api/resource/v1"
	"k8s.io/apimachinery/pkg/types"
	"k8s.io/dynamic-resource-allocation/resourceclaim"
	dra "k8s.io/kubelet/pkg/apis/dra/v1"

	"sagong/client"
)

// Config is what a Manager needs.
type Config struct {
	Client client.Client
	Node   string
	// File keeps what is prepared, for the next process.
	File string
	// CDI are the directories of specifications of devices, the most important
	// last; nil is /etc/cdi and /var/run/cdi.
	CDI []string
	// Later runs f after a time, unless it is called again with the same key
	// before; f's context ends with the agent.
	Later func(key string, d time.Duration, f func(context.Context))
	// HealthChanged says that the health of devices changed which a pod has.
	HealthChanged func(pod types.UID)
	Log           *slog.Logger
}

// Manager prepares devices for pods. All methods may be called at the same time
// for different pods.
type Manager struct {
	cfg     Config
	drivers drivers
	reports reports

	mu     sync.Mutex
	claims map[types.UID]*claim
}

// claim is one whose devices are prepared, or about to be.
type claim struct {
	mu sync.Mutex // held while drivers are asked

	// What is kept in the file; Manager.mu.
	UID             types.UID
	Namespace, Name string
	Pods            []types.UID // that use it
	// Drivers are all that the claim has devices of, each with its devices once
	// it has prepared them.
	Drivers map[string]*devices
}

type devices struct {
	Prepared bool
	Devices  []prepared
}

// prepared is a device as its driver describes it.
type prepared struct {
	Pool, Device, Share string
	Requests            []string // for all when there are none
	CDI                 []string
}

// New reads what an earlier process prepared.
func New(cfg Config) (*Manager, error) {
	m := &Manager{cfg: cfg, drivers: drivers{by: map[string][]*driver{}}, reports: reports{by: map[deviceKey]report{}}, claims: map[types.UID]*claim{}}
	data, err := os.ReadFile(cfg.File)
	if errors.Is(err, fs.ErrNotExist) {
		return m, nil
	}
	var list []*claim
	if err == nil {
		err = json.Unmarshal(data, &list)
	}
	if err == nil && slices.Contains(list, nil) {
		err = errors.New("a claim is missing")
	}
	if err != nil {
		return nil, fmt.Errorf("cannot read which devices are prepared: %w", err)
	}
	for _, c := range list {
		m.claims[c.UID] = c
	}
	return m, nil
}

// Start withdraws what drivers offered that are not here any more; those that
// still are come back and offer it anew.
func (m *Manager) Start(ctx context.Context) { m.withdraw(ctx, "") }

// save writes what is prepared. mu is held.
func (m *Manager) save() error {
	list := make([]*claim, 0, len(m.claims))
	for _, c := range m.claims {
		list = append(list, c)
	}
	slices.SortFunc(list, func(a, b *claim) int { return cmp.Compare(a.UID, b.UID) })
	data, err := json.Marshal(list)
	if err == nil {
		err = os.MkdirAll(filepath.Dir(m.cfg.File), 0o750)
	}
	if err == nil {
		err = os.WriteFile(m.cfg.File+".new", data, 0o600)
	}
	if err == nil {
		err = os.Rename(m.cfg.File+".new", m.cfg.File)
	}
	if err != nil {
		return fmt.Errorf("cannot note which devices are prepared: %w", err)
	}
	return nil
}

// Prepare has the drivers prepare the devices of a pod's claims. It may be
// called again at any time, and asks only for what is missing.
func (m *Manager) Prepare(ctx context.Context, p *corev1.Pod) error {
	var list []*claim
	for i := range p.Spec.ResourceClaims {
		name, own, err := resourceclaim.Name(p, &p.Spec.ResourceClaims[i])
		if err != nil {
			return fmt.Errorf("prepare resource claim: %w", err)
		}
		if name == nil {
			continue // none was made, none is needed
		}
		c, err := m.enter(ctx, p, *name, own)
		if err != nil {
			return err
		}
		if !slices.Contains(list, c) {
			list = append(list, c)
		}
	}
	if x := p.Status.ExtendedResourceClaimStatus; x != nil {
		c, err := m.enter(ctx, p, x.ResourceClaimName, true)
		if err != nil {
			return err
		}
		list = append(list, c)
	}
	if len(list) == 0 {
		return nil
	}
	// In one order for all, so that pods which share claims do not wait for each
	// other.
	slices.SortFunc(list, func(a, b *claim) int { return cmp.Compare(a.UID, b.UID) })
	by := map[string][]*claim{}
	for _, c := range list {
		c.mu.Lock()
		defer c.mu.Unlock()
	}
	m.mu.Lock()
	for _, c := range list {
		for name, d := range c.Drivers {
			if !d.Prepared {
				by[name] = append(by[name], c)
			}
		}
	}
	m.mu.Unlock()
	for name, claims := range by {
		if err := m.prepare(ctx, name, claims); err != nil {
			return err
		}
	}
	return nil
}

// enter notes that a pod uses a claim, which must be its to use.
func (m *Manager) enter(ctx context.Context, p *corev1.Pod, name string, own bool) (*claim, error) {
	c, err := client.Get[*resourcev1.ResourceClaim](ctx, m.cfg.Client, p.Namespace, name)
	if err != nil {
		return nil, fmt.Errorf("fetch ResourceClaim %s: %w", name, err)
	}
	if own {
		if err := resourceclaim.IsForPod(p, c, false); err != nil {
			return nil, err
		}
	}
	if c.Status.Allocation == nil {
		return nil, fmt.Errorf("ResourceClaim %s is not allocated", name)
	}
	if !resourceclaim.IsReservedForPod(p, c, false) {
		return nil, fmt.Errorf("pod %s (%s) is not allowed to use ResourceClaim %s (%s)", p.Name, p.UID, c.Name, c.UID)
	}
	m.mu.Lock()
	defer m.mu.Unlock()
	x := m.claims[c.UID]
	if x == nil {
		x = &claim{UID: c.UID, Namespace: c.Namespace, Name: c.Name, Drivers: map[string]*devices{}}
		for _, r := range c.Status.Allocation.Devices.Results {
			x.Drivers[r.Driver] = &devices{}
		}
		m.claims[c.UID] = x
	}
	if slices.Contains(x.Pods, p.UID) {
		return x, nil
	}
	x.Pods = append(x.Pods, p.UID)
	return x, m.save()
}

func (m *Manager) prepare(ctx context.Context, name string, claims []*claim) error {
	d, err := m.drivers.get(name)
	if err != nil {
		return err
	}
	req := &dra.NodePrepareResourcesRequest{}
	for _, c := range claims {
		req.Claims = append(req.Claims, &dra.Claim{Namespace: c.Namespace, Uid: string(c.UID), Name: c.Name})
	}
	asked, cancel := context.WithTimeout(ctx, patience)
	defer cancel()
	said, err := d.NodePrepareResources(asked, req)
	if err != nil {
		return fmt.Errorf("NodePrepareResources: %w", err)
	}
	var errs []error
	m.mu.Lock()
	defer m.mu.Unlock()
	for _, c := range claims {
		r := said.Claims[string(c.UID)]
		switch {
		case r == nil:
			errs = append(errs, fmt.Errorf("NodePrepareResources skipped ResourceClaim %s of DRA driver %s", c.Name, name))
		case r.Error != "":
			errs = append(errs, fmt.Errorf("NodePrepareResources failed for ResourceClaim %s: %s", c.Name, r.Error))
		default:
			ds := &devices{Prepared: true}
			for _, x := range r.Devices {
				ds.Devices = append(ds.Devices, prepared{x.PoolName, x.DeviceName, x.GetShareId(), x.RequestNames, x.CdiDeviceIds})
			}
			c.Drivers[name] = ds
		}
	}
	return errors.Join(append(errs, m.save())...)
}

// Unprepare has the drivers release what a pod used and nobody else does.
func (m *Manager) Unprepare(ctx context.Context, pod types.UID) error {
	var list []*claim
	m.mu.Lock()
	for _, c := range m.claims {
		if slices.Contains(c.Pods, pod) {
			list = append(list, c)
		}
	}
	m.mu.Unlock()
	var errs []error
	for _, c := range list {
		if err := m.leave(ctx, c, pod); err != nil {
			errs = append(errs, err)
		}
	}
	return errors.Join(errs...)
}

func (m *Manager) leave(ctx context.Context, c *claim, pod types.UID) error {
	c.mu.Lock()
	defer c.mu.Unlock()
	m.mu.Lock()
	last := len(c.Pods) == 1 && c.Pods[0] == pod
	if !last {
		c.Pods = slices.DeleteFunc(c.Pods, func(u types.UID) bool { return u == pod })
		err := m.save()
		m.mu.Unlock()
		return err
	}
	m.mu.Unlock()
	for name := range c.Drivers {
		d, err := m.drivers.get(name)
		if err != nil {
			return err
		}
		asked, cancel := context.WithTimeout(ctx, patience)
		said, err := d.NodeUnprepareResources(asked, &dra.NodeUnprepareResourcesRequest{Claims: []*dra.Claim{{Namespace: c.Namespace, Uid: string(c.UID), Name: c.Name}}})
		cancel()
		if err != nil {
			return fmt.Errorf("NodeUnprepareResources: %w", err)
		}
		if r, ok := said.Claims[string(c.UID)]; !ok {
			return fmt.Errorf("NodeUnprepareResources skipped ResourceClaim %s of DRA driver %s", c.Name, name)
		} else if r.GetError() != "" {
			return fmt.Errorf("NodeUnprepareResources failed for ResourceClaim %s: %s", c.Name, r.Error)
		}
	}
	m.mu.Lock()
	defer m.mu.Unlock()
	if c.Pods = slices.DeleteFunc(c.Pods, func(u types.UID) bool { return u == pod }); len(c.Pods) == 0 {
		delete(m.claims, c.UID)
	} else { // one more came meanwhile: its devices are prepared anew
		for name := range c.Drivers {
			c.Drivers[name] = &devices{}
		}
	}
	return m.save()
}

// Retain releases what pods other than these use.
func (m *Manager) Retain(ctx context.Context, pods map[types.UID]bool) error {
	gone := map[types.UID]bool{}
	m.mu.Lock()
	for _, c := range m.claims {
		for _, p := range c.Pods {
			if !pods[p] {
				gone[p] = true
			}
		}
	}
	m.mu.Unlock()
	var errs []error
	for p := range gone {
		errs = append(errs, m.Unprepare(ctx, p))
	}
	return errors.Join(errs...)
}

// Devices returns the names, in CDI, of the devices that a container of a pod
// gets through its claims and for its extended resources.
func (m *Manager) Devices(p *corev1.Pod, c *corev1.Container) ([]string, error) {
	var ids []string
	m.mu.Lock()
	defer m.mu.Unlock()
	for _, w := range wants(p, c) {
		x := m.find(p, w.claim)
		if x == nil {
			return nil, fmt.Errorf("unable to get resource for namespace: %s, claim: %s", p.Namespace, w.claim)
		}
		for _, driver := range slices.Sorted(maps.Keys(x.Drivers)) {
			for _, d := range x.Drivers[driver].Devices {
				if !meant(d.Requests, w.request) {
					continue
				}
				for _, id := range d.CDI {
					if !slices.Contains(ids, id) {
						ids = append(ids, id)
					}
				}
			}
		}
	}
	return ids, nil
}

// want is a part of a claim that a container has.
type want struct {
	claim   string // its name
	request string // "" for all
	name    corev1.ResourceName
}

// wants lists what a container has of its pod's claims. name is what the status
// of the container calls it.
func wants(p *corev1.Pod, c *corev1.Container) (list []want) {
	for _, r := range c.Resources.Claims {
		i := slices.IndexFunc(p.Spec.ResourceClaims, func(x corev1.PodResourceClaim) bool { return x.Name == r.Name })
		if i < 0 {
			continue // validation has looked
		}
		name, _, err := resourceclaim.Name(p, &p.Spec.ResourceClaims[i])
		if err != nil || name == nil {
			continue // none was made: Prepare has looked
		}
		called := "claim:" + r.Name
		if r.Request != "" {
			called += "/" + r.Request
		}
		list = append(list, want{*name, r.Request, corev1.ResourceName(called)})
	}
	if s := p.Status.ExtendedResourceClaimStatus; s != nil {
		for _, r := range s.RequestMappings {
			if q := c.Resources.Requests[corev1.ResourceName(r.ResourceName)]; r.ContainerName == c.Name && !q.IsZero() {
				list = append(list, want{s.ResourceClaimName, r.RequestName, corev1.ResourceName("claim:" + s.ResourceClaimName + "/" + r.RequestName)})
			}
		}
	}
	return list
}

func (m *Manager) find(p *corev1.Pod, name string) *claim {
	for _, c := range m.claims {
		if c.Namespace == p.Namespace && c.Name == name && slices.Contains(c.Pods, p.UID) {
			return c
		}
	}
	return nil
}

// meant tells whether a device for these requests is among what a container
// wants: one request, by its name or with the alternative that was chosen, or
// all.
func meant(requests []string, want string) bool {
	return want == "" || len(requests) == 0 || slices.ContainsFunc(requests, func(r string) bool { return r == want || resourceclaim.BaseRequestRef(r) == want })
}
