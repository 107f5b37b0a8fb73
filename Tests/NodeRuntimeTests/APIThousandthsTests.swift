internal import Testing

@testable internal import NodeRuntime

@Suite("Numbers of answers")
struct APIThousandthsTests {
    private static let cases: [(value: Int64, text: String)] = [
        (0, "0.000"), (7, "0.007"), (-7, "-0.007"), (1234, "1.234"), (-1000, "-1.000"),
        (Int64.min, "-9223372036854775.808"),
    ]

    @Test(arguments: Self.cases)
    func thousandthsHaveThreeDigitsAndASign(value: Int64, expected: String) {
        var json = JSONOutput()
        json.beginObject()
        json.member("x", thousandths: value)
        json.endObject()
        #expect(String(decoding: json.bytes, as: UTF8.self) == "{\"x\":\(expected)}")
    }
}
