//! Scripts as their documentation has them.

use longhaul::model::{Message, ModelChoice, Patience, Purpose, Request, Scripted, Wire, open};

#[test]
fn the_examples_in_the_documentation_are_scripts() {
    let text = include_str!("../../docs/SCRIPTS.md");
    let examples: Vec<_> = text.split("```toml\n").skip(1).filter_map(|rest| rest.split("```").next()).collect();
    assert_eq!(examples.len(), 2);
    for example in examples {
        Scripted::from_text("docs/SCRIPTS.md", example).unwrap();
    }
}

#[tokio::test]
async fn a_script_is_opened_by_its_file_name() {
    let dir = tempfile::tempdir().unwrap();
    let file = dir.path().join("hello.toml");
    std::fs::write(&file, "[[turn]]\nsay = 'Hello.'\n").unwrap();
    let choice = |name: String| ModelChoice {
        name,
        base_url: None,
        api_key: None,
        wire: Wire::Auto,
        patience: Patience::default(),
        seed: 0,
    };
    let found = choice(format!("script:{}", file.display()));
    assert_eq!(found.shown_base_url(), "");
    let model = open(&found).unwrap();
    let request = Request { messages: vec![Message::User("Hi.".to_owned())], tools: [].into(), purpose: Purpose::Turn };
    assert_eq!(model.answer(&request, &mut |_| {}).await.unwrap().text, "Hello.");
    assert!(
        String::from_utf8(model.render(&request))
            .unwrap()
            .ends_with(r#""messages":[{"role":"user","content":"Hi."}]}"#)
    );

    let missing = open(&choice(format!("script:{}/nothing.toml", dir.path().display()))).err().unwrap();
    assert!(missing.what.ends_with("nothing.toml can't be read"), "{missing:?}");
    std::fs::write(&file, "[[turn]]\nsay = 'Hello.'\nsign = 1\n").unwrap();
    let broken = open(&found).err().unwrap();
    assert!(broken.what.ends_with("hello.toml:3: this is no script"), "{broken:?}");
}
