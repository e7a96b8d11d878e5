package admission

import (
	"fmt"
	"math/big"

	corev1 "k8s.io/api/core/v1"
	kresource "k8s.io/apimachinery/pkg/api/resource"
)

// The bounds of a LimitRange, in upstream's words. kind is the type of the item.

func atLeast(kind, n string, bound kresource.Quantity, d *corev1.ResourceRequirements) error {
	request, ok := d.Requests[corev1.ResourceName(n)]
	limit, limited := d.Limits[corev1.ResourceName(n)]
	switch {
	case !ok:
		return fmt.Errorf("minimum %s usage per %s is %s.  No request is specified", n, kind, bound.String())
	case request.Cmp(bound) < 0:
		return fmt.Errorf("minimum %s usage per %s is %s, but request is %s", n, kind, bound.String(), request.String())
	case limited && limit.Cmp(bound) < 0:
		return fmt.Errorf("minimum %s usage per %s is %s, but limit is %s", n, kind, bound.String(), limit.String())
	}
	return nil
}

func atMost(kind, n string, bound kresource.Quantity, d *corev1.ResourceRequirements) error {
	request, ok := d.Requests[corev1.ResourceName(n)]
	limit, limited := d.Limits[corev1.ResourceName(n)]
	switch {
	case !limited:
		return fmt.Errorf("maximum %s usage per %s is %s.  No limit is specified", n, kind, bound.String())
	case limit.Cmp(bound) > 0:
		return fmt.Errorf("maximum %s usage per %s is %s, but limit is %s", n, kind, bound.String(), limit.String())
	case ok && request.Cmp(bound) > 0:
		return fmt.Errorf("maximum %s usage per %s is %s, but request is %s", n, kind, bound.String(), request.String())
	}
	return nil
}

func requestAtMost(kind, n string, bound kresource.Quantity, d *corev1.ResourceRequirements) error {
	request, ok := d.Requests[corev1.ResourceName(n)]
	switch {
	case !ok:
		return fmt.Errorf("maximum %s usage per %s is %s.  No request is specified", n, kind, bound.String())
	case request.Cmp(bound) > 0:
		return fmt.Errorf("maximum %s usage per %s is %s, but request is %s", n, kind, bound.String(), request.String())
	}
	return nil
}

func atRatio(kind, n string, bound kresource.Quantity, d *corev1.ResourceRequirements) error {
	request, ok := d.Requests[corev1.ResourceName(n)]
	if !ok || request.IsZero() {
		return fmt.Errorf("%s max limit to request ratio per %s is %s, but no request is specified or request is 0", n, kind, bound.String())
	}
	limit, ok := d.Limits[corev1.ResourceName(n)]
	if !ok || limit.IsZero() {
		return fmt.Errorf("%s max limit to request ratio per %s is %s, but no limit is specified or limit is 0", n, kind, bound.String())
	}
	if text, over := ratio(limit, request, bound); over {
		return fmt.Errorf("%s max limit to request ratio per %s is %s, but provided ratio is %s", n, kind, bound.String(), text)
	}
	return nil
}

// ratio is limit over request to six decimals, and whether it exceeds the bound.
// It is exact, except for quantities such as 1e1000000: nobody needs their digits,
// and to write them out takes for ever.
func ratio(limit, request, bound kresource.Quantity) (string, bool) {
	for _, q := range []kresource.Quantity{limit, request, bound} {
		if s := q.AsDec().Scale(); s > 100 || s < -100 {
			r := limit.AsApproximateFloat64() / request.AsApproximateFloat64()
			return fmt.Sprintf("%e", r), r > bound.AsApproximateFloat64()
		}
	}
	r := new(big.Rat).Quo(rational(limit), rational(request))
	r.Abs(r)
	return r.FloatString(6), r.Cmp(rational(bound)) > 0
}

// rational is a quantity's exact value.
func rational(q kresource.Quantity) *big.Rat {
	d := q.AsDec()
	r := new(big.Rat).SetInt(d.UnscaledBig())
	ten := new(big.Int).Exp(big.NewInt(10), big.NewInt(int64(max(d.Scale(), -d.Scale()))), nil)
	if d.Scale() >= 0 {
		return r.Quo(r, new(big.Rat).SetInt(ten))
	}
	return r.Mul(r, new(big.Rat).SetInt(ten))
}
