"""What must hold on an x86-64 without AVX2, as `.ci/run` emulates one: fastnn can be imported, its
portable kernels run, and a network learns."""

import fastnn

info = fastnn.build_info()
assert info["isa"] == "portable" and info["isa_available"] == ["portable"], info
X, y = fastnn.datasets.digits()
model = fastnn.Sequential(
    fastnn.Dense(64, 64), fastnn.BatchNorm(64), fastnn.ReLU(), fastnn.Dense(64, 10), seed=0
)
model.fit(
    X[:1400], y[:1400], loss=fastnn.SoftmaxCrossEntropy(), optimizer=fastnn.Adam(5e-3), epochs=5
)
accuracy = (model.predict(X[1400:]).argmax(1) == y[1400:]).mean()
print(f"portable kernels: {accuracy:.1%} of the digits held out")
assert accuracy > 0.85, accuracy
