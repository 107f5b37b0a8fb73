internal import HTTPTypes
internal import Testing

@testable internal import Transport

@Suite("Values of header fields")
struct HTTPFieldsValueTests {
    @Test func areWhatTheSubscriptGives() {
        var fields = HTTPFields()
        fields.append(HTTPField(name: .accept, value: "text/csv"))
        fields.append(HTTPField(name: .contentType, value: "application/json"))
        fields.append(HTTPField(name: .accept, value: "*/*"))
        fields.append(HTTPField(name: .cookie, value: "a=1"))
        fields.append(HTTPField(name: .cookie, value: "b=2"))
        for name in [HTTPField.Name.accept, .contentType, .cookie, .authorization] {
            #expect(fields.value(of: name) == fields[name])
        }
        #expect(fields.value(of: .accept) == "text/csv, */*")
        #expect(fields.value(of: .contentType) == "application/json")
        #expect(fields.value(of: .authorization) == nil)
    }

    @Test func areFoundAtTheEnd() {
        var fields = HTTPFields()
        fields.append(HTTPField(name: .userAgent, value: "one"))
        #expect(fields.value(of: .userAgent) == "one")
        #expect(HTTPFields().value(of: .userAgent) == nil)
    }
}
