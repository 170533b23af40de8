// Chartcheck reads Kubernetes objects as YAML on standard input and says what an
// API server would say to each of them: it decodes them strictly, so that
// unknown and repeated fields are errors, fills in the defaults and validates, with
// Kubernetes' own code; and it holds every pod against the restricted pod
// security standard. It ends with status 1 if anything is wrong.
//
//	helm template r signal/deploy/chart --set open=true | chartcheck
//
// It is a module of its own, so that nothing of Kubernetes is among what the
// program depends on. Helm is its tool: go tool helm runs it in this directory.
package main

import (
	"bufio"
	"errors"
	"fmt"
	"io"
	"os"

	monitoring "github.com/prometheus-operator/prometheus-operator/pkg/apis/monitoring/v1"
	appsv1 "k8s.io/api/apps/v1"
	corev1 "k8s.io/api/core/v1"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/apimachinery/pkg/runtime"
	"k8s.io/apimachinery/pkg/runtime/serializer"
	utilruntime "k8s.io/apimachinery/pkg/util/runtime"
	"k8s.io/apimachinery/pkg/util/validation/field"
	"k8s.io/apimachinery/pkg/util/yaml"
	"k8s.io/kubernetes/pkg/api/legacyscheme"
	"k8s.io/kubernetes/pkg/apis/apps"
	_ "k8s.io/kubernetes/pkg/apis/apps/install"
	appsvalidation "k8s.io/kubernetes/pkg/apis/apps/validation"
	"k8s.io/kubernetes/pkg/apis/core"
	_ "k8s.io/kubernetes/pkg/apis/core/install"
	corevalidation "k8s.io/kubernetes/pkg/apis/core/validation"
	"k8s.io/kubernetes/pkg/apis/networking"
	_ "k8s.io/kubernetes/pkg/apis/networking/install"
	networkingvalidation "k8s.io/kubernetes/pkg/apis/networking/validation"
	"k8s.io/kubernetes/pkg/apis/policy"
	_ "k8s.io/kubernetes/pkg/apis/policy/install"
	policyvalidation "k8s.io/kubernetes/pkg/apis/policy/validation"
	psapi "k8s.io/pod-security-admission/api"
	pspolicy "k8s.io/pod-security-admission/policy"
)

func main() {
	n, err := check(os.Stdin)
	if err != nil {
		fmt.Fprintln(os.Stderr, err)
		os.Exit(1)
	}
	fmt.Printf("%d objects are in order\n", n)
}

// check returns how many objects there are, and all that is wrong with them.
func check(r io.Reader) (n int, err error) {
	utilruntime.Must(monitoring.AddToScheme(legacyscheme.Scheme))
	decoder := serializer.NewCodecFactory(legacyscheme.Scheme, serializer.EnableStrict).UniversalDeserializer()
	var faults []error
	for docs := yaml.NewYAMLReader(bufio.NewReader(r)); ; {
		doc, err := docs.Read()
		if errors.Is(err, io.EOF) {
			break
		}
		if err != nil {
			return n, err
		}
		var fields map[string]any
		if err := yaml.Unmarshal(doc, &fields); err != nil {
			return n, err
		}
		if len(fields) == 0 {
			continue // nothing but comments
		}
		n++
		obj, kind, err := decoder.Decode(doc, nil, nil)
		if err != nil {
			faults = append(faults, fmt.Errorf("object %d: %w", n, err))
			continue
		}
		name := "?"
		if m, ok := obj.(metav1.Object); ok {
			name = m.GetName()
			if m.GetNamespace() == "" {
				m.SetNamespace(metav1.NamespaceDefault)
			}
		}
		for _, err := range validate(obj) {
			faults = append(faults, fmt.Errorf("%s %s: %w", kind.Kind, name, err))
		}
	}
	if n == 0 {
		faults = append(faults, errors.New("there is no object at all"))
	}
	return n, errors.Join(faults...)
}

// validate does what the API server does to an object that is created.
func validate(obj runtime.Object) (faults []error) {
	switch o := obj.(type) {
	case *monitoring.ServiceMonitor:
		return nil // its operator's own types, strictly decoded, are all there is
	case *appsv1.Deployment:
		faults = append(faults, restricted(o.Spec.Template)...)
	}
	legacyscheme.Scheme.Default(obj)
	if o, ok := obj.(*corev1.Service); ok && o.Spec.Type == corev1.ServiceTypeLoadBalancer && o.Spec.ExternalTrafficPolicy == corev1.ServiceExternalTrafficPolicyLocal {
		o.Spec.HealthCheckNodePort = 30000 // the server gives it one before it validates
	}
	internal, err := legacyscheme.Scheme.ConvertToVersion(obj, runtime.InternalGroupVersioner)
	if err != nil {
		return append(faults, err)
	}
	var list field.ErrorList
	switch o := internal.(type) {
	case *apps.Deployment:
		list = appsvalidation.ValidateDeployment(o, corevalidation.PodValidationOptions{})
	case *core.Service:
		list = corevalidation.ValidateServiceCreate(o)
	case *core.Secret:
		list = corevalidation.ValidateSecret(o)
	case *networking.Ingress:
		list = networkingvalidation.ValidateIngressCreate(o)
	case *networking.NetworkPolicy:
		list = networkingvalidation.ValidateNetworkPolicy(o, networkingvalidation.NetworkPolicyValidationOptions{})
	case *policy.PodDisruptionBudget:
		list = policyvalidation.ValidatePodDisruptionBudget(o, policyvalidation.PodDisruptionBudgetValidationOptions{})
	default:
		return append(faults, fmt.Errorf("%T is not checked here yet", internal))
	}
	for _, e := range list {
		faults = append(faults, e)
	}
	return faults
}

// restricted holds a pod against the restricted pod security standard,
// https://kubernetes.io/docs/concepts/security/pod-security-standards.
func restricted(pod corev1.PodTemplateSpec) (faults []error) {
	evaluator, err := pspolicy.NewEvaluator(pspolicy.DefaultChecks(), nil)
	if err != nil {
		return []error{err}
	}
	level := psapi.LevelVersion{Level: psapi.LevelRestricted, Version: psapi.LatestVersion()}
	for _, r := range evaluator.EvaluatePod(level, &pod.ObjectMeta, &pod.Spec) {
		if !r.Allowed {
			faults = append(faults, fmt.Errorf("not restricted: %s: %s", r.ForbiddenReason, r.ForbiddenDetail))
		}
	}
	return faults
}
